-- Seconds from the first delivery of a frame to its first verdict, day by day
SELECT
    CAST(d.received_at AS date) AS day,
    count(*) AS frames,
    approx_percentile(date_diff('second', d.received_at, v.judged_at), 5e-1) AS median_s,
    approx_percentile(date_diff('second', d.received_at, v.judged_at), 9e-1) AS p90_s,
    max(date_diff('second', d.received_at, v.judged_at)) AS longest_s
FROM (
    SELECT frame_id, min(received_at) AS received_at FROM deliveries GROUP BY frame_id
) AS d
INNER JOIN (
    SELECT frame_id, min(judged_at) AS judged_at FROM verdicts GROUP BY frame_id
) AS v ON v.frame_id = d.frame_id
GROUP BY CAST(d.received_at AS date)
ORDER BY day
