-- Current references with their frame's quality and how often each was the nearest
SELECT
    r.reference_set, r.frame_id, r.name, r.embedding, r.added_at, r.added_by,
    f.obs_time, f.night, f.instrument, f.filter, f.exposure_s, f.zone,
    f.background, f.noise, f.fwhm_px, f.stars, f.valid_fraction,
    coalesce(u.times_nearest, 0) AS times_nearest,
    coalesce(u.times_nearest_anomaly, 0) AS times_nearest_anomaly,
    u.last_nearest_at
FROM current_references AS r
LEFT JOIN frames AS f ON f.frame_id = r.frame_id
LEFT JOIN (
    SELECT
        reference_set, embedding || '@' || embedding_version AS embedding,
        element_at(neighbours, 1).frame_id AS nearest_frame_id,
        count(*) AS times_nearest,
        count_if(status = 'anomaly') AS times_nearest_anomaly,
        max(judged_at) AS last_nearest_at
    FROM verdicts
    GROUP BY reference_set, embedding || '@' || embedding_version, element_at(neighbours, 1).frame_id
) AS u
    ON u.nearest_frame_id = r.frame_id
    AND u.reference_set = r.reference_set
    AND u.embedding = r.embedding
