-- Every judgement of one frame, the oldest first
-- parameter: frame_id varchar
SELECT
    judged_at, verdict_id, embedding, embedding_version, status, distance, p_value, sigma, threshold,
    reference_set, reference_snapshot_id, references_in_cell, models, code_version,
    element_at(neighbours, 1).name AS nearest_name
FROM verdicts
WHERE frame_id = :frame_id
ORDER BY judged_at, verdict_id
