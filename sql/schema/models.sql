-- A log of reference models: the models in use at any time can be told from it, and old verdicts judged again.
CREATE TABLE IF NOT EXISTS models (
    model varchar NOT NULL COMMENT 'sha256 of the artefact',
    kind varchar COMMENT 'residual: the reference model of a field',
    version varchar COMMENT 'of the embedding that takes it',
    event varchar COMMENT 'learnt or retired',
    "at" timestamp COMMENT 'UTC',
    reference_set varchar,
    reference_snapshot_id bigint COMMENT 'snapshot of reference_members that it was learnt from',
    instrument varchar,
    filter varchar COMMENT 'filter band',
    exposure_s double,
    ra double COMMENT 'of the field, degrees',
    dec double COMMENT 'of the field, degrees',
    radius_deg double,
    members array(varchar) COMMENT 'frame ids, in the order of its vectors',
    registered array(varchar) COMMENT 'those of the members that frames are compared with',
    odd array(varchar) COMMENT 'those of the members that the others would flag',
    left_out array(varchar) COMMENT 'references of the field that it does without',
    anchor map(varchar, varchar) COMMENT 'WCS cards of one member',
    to_stack array(double) COMMENT 'affine map from that member to the stack',
    metrics map(varchar, varchar),
    bytes bigint,
    uri varchar,
    code_version varchar
)
COMMENT 'Reference models learnt from the references of each field'
WITH (format = 'PARQUET')
