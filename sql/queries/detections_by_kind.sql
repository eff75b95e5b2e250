-- Detections of the newest verdicts by kind
SELECT
    d.kind,
    count(*) AS detections,
    count(DISTINCT d.frame_id) AS frames,
    max(d.sigma) AS strongest_sigma,
    approx_percentile(d.sigma, 5e-1) AS median_sigma,
    max_by(v.name, d.sigma) AS strongest_in
FROM detections AS d
INNER JOIN latest_verdicts AS v ON v.verdict_id = d.verdict_id
GROUP BY d.kind
ORDER BY detections DESC, d.kind
