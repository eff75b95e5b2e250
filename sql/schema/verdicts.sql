-- One judgement of one frame, with all that is needed to judge it the same way again.
CREATE TABLE IF NOT EXISTS verdicts (
    verdict_id varchar NOT NULL,
    frame_id varchar NOT NULL,
    name varchar,
    judged_at timestamp COMMENT 'UTC',
    obs_time timestamp COMMENT 'UTC',
    night date,
    instrument varchar,
    filter varchar COMMENT 'filter band',
    zone bigint COMMENT 'HEALPix cell',
    status varchar COMMENT 'normal, anomaly, no_reference, not_searched or unreadable',
    distance double COMMENT 'L2 distance to the nearest reference: the root, never the square',
    p_value double COMMENT 'share of references in the cell at least this far from their neighbours',
    extrapolated boolean COMMENT 'true when p_value comes from a fitted tail',
    sigma double,
    threshold double COMMENT 'the distance at which p_value meets the budget',
    budget double COMMENT 'the false-alarm share allowed',
    tier varchar,
    reason varchar,
    neighbours array(row(frame_id varchar, name varchar, distance double)) COMMENT 'nearest first',
    embedding varchar,
    embedding_version varchar,
    reference_set varchar,
    reference_snapshot_id bigint COMMENT 'snapshot of reference_members that was searched',
    references_in_cell integer,
    prefilter varchar COMMENT 'the typed prefilter as JSON',
    models map(varchar, varchar) COMMENT 'kind and version of every model used',
    code_version varchar,
    source_partition varchar,
    source_offset bigint
)
COMMENT 'One judgement of one frame'
WITH (format = 'PARQUET', partitioning = ARRAY['day(judged_at)'])
