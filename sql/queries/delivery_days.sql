-- Messages, bytes and duplicates of every day
-- parameter: first_day date 1970-01-01
SELECT
    day,
    sum(deliveries) AS deliveries,
    sum(bytes) AS bytes,
    sum(CASE WHEN outcome = 'duplicate' THEN deliveries ELSE 0 END) AS duplicates,
    sum(CASE WHEN outcome = 'quarantined' THEN deliveries ELSE 0 END) AS quarantined
FROM deliveries_by_outcome
WHERE day >= :first_day
GROUP BY day
ORDER BY day
