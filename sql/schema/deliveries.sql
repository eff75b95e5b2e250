-- One message received; a frame delivered twice is two rows here and one in frames.
CREATE TABLE IF NOT EXISTS deliveries (
    source_partition varchar NOT NULL COMMENT 'topic and partition, or the spool directory',
    source_offset bigint NOT NULL,
    name varchar,
    frame_id varchar COMMENT 'sha256 of the content, in hex',
    outcome varchar COMMENT 'new, duplicate or quarantined',
    purpose varchar COMMENT 'ingest or reference',
    bytes bigint,
    received_at timestamp COMMENT 'UTC'
)
COMMENT 'One message received'
WITH (format = 'PARQUET')
