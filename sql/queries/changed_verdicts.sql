-- Frames whose status changed when they were judged again
SELECT frame_id, name, embedding, judged_at, previous_status, status, previous_p_value, p_value
FROM (
    SELECT
        frame_id, name, embedding, judged_at, status, p_value,
        lag(status) OVER (PARTITION BY frame_id, embedding ORDER BY judged_at, verdict_id) AS previous_status,
        lag(p_value) OVER (PARTITION BY frame_id, embedding ORDER BY judged_at, verdict_id) AS previous_p_value
    FROM verdicts
) AS steps
WHERE previous_status <> status
ORDER BY judged_at, frame_id, embedding
