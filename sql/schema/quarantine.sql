-- A log: a frame goes into quarantine, and leaves it when it is driven again.
CREATE TABLE IF NOT EXISTS quarantine (
    frame_id varchar NOT NULL COMMENT 'sha256 of the bytes as delivered, in hex',
    name varchar,
    code varchar COMMENT 'a stable word for counting, such as truncated',
    reason varchar COMMENT 'one sentence for people',
    event varchar COMMENT 'quarantined or redriven',
    bytes bigint,
    archive_uri varchar COMMENT 'where the bytes are kept; null when they were not',
    source_partition varchar,
    source_offset bigint,
    "at" timestamp COMMENT 'UTC'
)
COMMENT 'Frames that could not be read, and those driven again'
WITH (format = 'PARQUET')
