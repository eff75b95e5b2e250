-- The frames least like their references, oddest first
-- parameter: top bigint 20
-- parameter: embedding varchar null
SELECT place, frame_id, name, embedding, p_value, sigma, distance, nearest_name, night, instrument, filter, object
FROM (
    SELECT
        frame_id, name, embedding, p_value, sigma, distance, nearest_name, night, instrument, filter, object,
        row_number() OVER (ORDER BY p_value, sigma DESC, distance DESC, frame_id) AS place
    FROM anomalies
    WHERE :embedding IS NULL OR embedding = :embedding
) AS ranked
-- A bound LIMIT is not Presto syntax, so the rank is the limit.
WHERE place <= :top
ORDER BY place
