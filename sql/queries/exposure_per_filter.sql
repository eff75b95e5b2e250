-- Exposure time and frames of every instrument and filter
SELECT
    instrument, filter,
    count(*) AS frames,
    sum(exposure_s) AS exposure_s,
    min(exposure_s) AS shortest_s,
    max(exposure_s) AS longest_s
FROM frames
GROUP BY instrument, filter
ORDER BY instrument, filter
