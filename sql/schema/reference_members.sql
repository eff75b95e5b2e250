-- A log of entries to and exits from the reference repository: the set of any day can be rebuilt from it.
CREATE TABLE IF NOT EXISTS reference_members (
    reference_set varchar NOT NULL,
    frame_id varchar NOT NULL,
    name varchar,
    embedding varchar COMMENT 'name and version, e.g. pixels@1-32x32',
    action varchar COMMENT 'add or remove',
    "at" timestamp COMMENT 'UTC',
    "by" varchar COMMENT 'the person or program that did it',
    why varchar
)
COMMENT 'Entries to and exits from the reference repository'
WITH (format = 'PARQUET')
