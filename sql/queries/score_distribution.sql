-- Distances of every prefilter cell: percentiles, threshold and flags
-- parameter: embedding varchar null
SELECT
    embedding, zone, instrument, filter,
    count(*) AS judged,
    approx_percentile(distance, 1e-1) AS p10,
    approx_percentile(distance, 5e-1) AS p50,
    approx_percentile(distance, 9e-1) AS p90,
    max(distance) AS furthest,
    max_by(threshold, judged_at) AS latest_threshold,
    count_if(status = 'anomaly') AS flagged
FROM latest_verdicts
WHERE distance IS NOT NULL AND (:embedding IS NULL OR embedding = :embedding)
GROUP BY embedding, zone, instrument, filter
ORDER BY embedding, zone, instrument, filter
