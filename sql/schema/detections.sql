-- One place in a frame that made its verdict odd.
CREATE TABLE IF NOT EXISTS detections (
    verdict_id varchar NOT NULL,
    frame_id varchar NOT NULL,
    x double COMMENT 'pixels; the centre of the first pixel is 0',
    y double COMMENT 'pixels; the centre of the first pixel is 0',
    ra double COMMENT 'degrees, ICRS; null without a WCS',
    dec double COMMENT 'degrees, ICRS; null without a WCS',
    sigma double COMMENT 'significance of the peak',
    kind varchar COMMENT 'what it looks like',
    size_px double,
    angle_deg double,
    judged_at timestamp COMMENT 'UTC'
)
COMMENT 'One odd place in a frame'
WITH (format = 'PARQUET', partitioning = ARRAY['day(judged_at)'])
