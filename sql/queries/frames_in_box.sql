-- Frames that point into a box on the sky; a box with ra_min above ra_max crosses 0h
-- parameter: ra_min double
-- parameter: ra_max double
-- parameter: dec_min double
-- parameter: dec_max double
SELECT frame_id, name, obs_time, instrument, filter, exposure_s, ra, dec
FROM frames
WHERE
    dec BETWEEN :dec_min AND :dec_max
    AND (
        (:ra_min <= :ra_max AND ra BETWEEN :ra_min AND :ra_max)
        OR (:ra_min > :ra_max AND (ra >= :ra_min OR ra <= :ra_max))
    )
ORDER BY obs_time, frame_id
