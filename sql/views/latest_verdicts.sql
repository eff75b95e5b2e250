-- The newest verdict of every frame and embedding; `unreadable`, which has no embedding, only until there is another
SELECT
    verdict_id, frame_id, name, judged_at, obs_time, night, instrument, filter, zone, status, distance, p_value,
    extrapolated, sigma, threshold, budget, tier, reason, neighbours, embedding, embedding_version, reference_set,
    reference_snapshot_id, references_in_cell, prefilter, models, code_version, source_partition, source_offset
FROM (
    SELECT
        verdicts.*,
        row_number() OVER (
            PARTITION BY frame_id, embedding ORDER BY judged_at DESC, verdict_id DESC
        ) AS recency,
        max(judged_at) OVER (PARTITION BY frame_id) AS last_judged_at
    FROM verdicts
) AS ranked
WHERE recency = 1 AND (embedding IS NOT NULL OR judged_at = last_judged_at)
