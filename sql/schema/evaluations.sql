-- A log of measurements: how well each spec told what is odd, by protocol, folder and kind.
CREATE TABLE IF NOT EXISTS evaluations (
    "at" timestamp COMMENT 'UTC',
    protocol varchar NOT NULL,
    folder varchar NOT NULL COMMENT 'name of the folder of frames with their truth',
    spec varchar NOT NULL,
    kind varchar COMMENT 'of the odd things, with the S/N where that matters',
    metric varchar NOT NULL,
    value double COMMENT 'null where it cannot be told',
    low double COMMENT 'lower end of the 95 percent interval over objects',
    high double COMMENT 'upper end',
    n_objects integer,
    note varchar,
    code_version varchar
)
COMMENT 'Measurements of specs'
WITH (format = 'PARQUET')
