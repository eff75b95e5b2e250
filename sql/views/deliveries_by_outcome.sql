-- Messages, bytes and distinct frames of every day, purpose and outcome
SELECT
    CAST(received_at AS date) AS day, purpose, outcome,
    count(*) AS deliveries,
    count(DISTINCT frame_id) AS frames,
    sum(bytes) AS bytes,
    min(received_at) AS first_at,
    max(received_at) AS last_at
FROM deliveries
GROUP BY CAST(received_at AS date), purpose, outcome
