-- Frames, flags and flag rate of every night and instrument
-- parameter: first_night date 1970-01-01
-- parameter: last_night date 9999-12-31
SELECT
    night, instrument, frames, flagged,
    CASE WHEN frames > 0 THEN CAST(flagged AS double) / frames END AS flag_rate
FROM nights
WHERE night BETWEEN :first_night AND :last_night
ORDER BY night, instrument
