-- Frames that nobody has judged and that are no reference
-- parameter: first_night date 1970-01-01
SELECT f.frame_id, f.name, f.night, f.instrument, f.filter, f.ingested_at
FROM frames AS f
LEFT JOIN verdicts AS v ON v.frame_id = f.frame_id
LEFT JOIN current_references AS r ON r.frame_id = f.frame_id
WHERE
    v.frame_id IS NULL
    AND r.frame_id IS NULL
    -- A frame whose header gives no time has no night, and must not drop out of the list for it.
    AND coalesce(f.night, :first_night) >= :first_night
ORDER BY f.ingested_at, f.frame_id
