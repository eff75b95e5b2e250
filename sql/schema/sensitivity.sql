-- What each night would have missed: known light injected into copies of its normal frames, and how much of it was found.
CREATE TABLE IF NOT EXISTS sensitivity (
    night date,
    "at" timestamp COMMENT 'UTC',
    reference_set varchar,
    instrument varchar,
    filter varchar COMMENT 'filter band',
    ra double COMMENT 'of the field, degrees',
    dec double COMMENT 'of the field, degrees',
    model varchar NOT NULL COMMENT 'sha256 of the reference model',
    kind varchar COMMENT 'point or streak',
    snr double COMMENT 'of what was injected, matched filter',
    flux double COMMENT 'the same in units of the frames, median',
    trials integer,
    found integer COMMENT 'flagged',
    located integer COMMENT 'listed at its place',
    recall double,
    recall_low double COMMENT '95 percent interval',
    recall_high double,
    snr_50 double COMMENT 'S/N at which half is found; null where the ladder does not say',
    snr_90 double COMMENT 'S/N at which nine of ten are found',
    budget double COMMENT 'false-alarm budget it was flagged at',
    code_version varchar
)
COMMENT 'Recall of injected light by night, field and brightness'
WITH (format = 'PARQUET')
