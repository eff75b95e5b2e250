-- Share of frames with p at or below x: where scores are calibrated, the share of judged frames is near x
-- parameter: embedding varchar null
SELECT
    x,
    count(p_value) AS judged,
    count_if(p_value <= x) AS judged_at_or_below,
    CAST(count_if(p_value <= x) AS double) / nullif(count(p_value), 0) AS share_of_judged,
    count_if(status = 'normal') AS normal,
    count_if(status = 'normal' AND p_value <= x) AS normal_at_or_below,
    CAST(count_if(status = 'normal' AND p_value <= x) AS double)
        / nullif(count_if(status = 'normal'), 0) AS share_of_normal
FROM latest_verdicts
CROSS JOIN (
    VALUES (1e-3), (1e-2), (5e-2), (1e-1), (2e-1), (3e-1), (4e-1), (5e-1), (6e-1), (7e-1), (8e-1), (9e-1), (1e0)
) AS steps (x)
WHERE p_value IS NOT NULL AND (:embedding IS NULL OR embedding = :embedding)
GROUP BY x
ORDER BY x
