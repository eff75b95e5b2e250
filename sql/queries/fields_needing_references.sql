-- Fields whose frames wait for references, the busiest first
SELECT
    zone, instrument, filter, embedding,
    count(*) AS frames,
    max(references_in_cell) AS references_in_cell,
    min(night) AS first_night,
    max(night) AS last_night
FROM latest_verdicts
WHERE status = 'no_reference'
GROUP BY zone, instrument, filter, embedding
ORDER BY frames DESC, zone, instrument, filter, embedding
