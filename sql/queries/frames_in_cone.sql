-- Frames that point within radius_deg of a position, the nearest first
-- parameter: ra double
-- parameter: dec double
-- parameter: radius_deg double 1
SELECT frame_id, name, obs_time, instrument, filter, exposure_s, separation_deg
FROM (
    SELECT
        frame_id, name, obs_time, instrument, filter, exposure_s,
        -- The haversine keeps its digits at small angles, where the arc cosine of a dot product loses them.
        degrees(2 * asin(least(1e0, sqrt(
            power(sin(radians(dec - :dec) / 2), 2)
            + cos(radians(dec)) * cos(radians(:dec)) * power(sin(radians(ra - :ra) / 2), 2)
        )))) AS separation_deg
    FROM frames
    WHERE ra IS NOT NULL AND dec IS NOT NULL
) AS placed
WHERE separation_deg <= :radius_deg
ORDER BY separation_deg, frame_id
