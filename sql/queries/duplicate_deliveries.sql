-- Frames that were delivered more than once
SELECT
    frame_id,
    min_by(name, received_at) AS first_name,
    count(*) AS deliveries,
    count(DISTINCT source_partition) AS partitions,
    min(received_at) AS first_at,
    max(received_at) AS last_at,
    date_diff('second', min(received_at), max(received_at)) AS apart_s
FROM deliveries
GROUP BY frame_id
HAVING count(*) > 1
ORDER BY deliveries DESC, frame_id
