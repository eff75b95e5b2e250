-- Frames whose newest verdict is an anomaly, with the nearest reference
SELECT
    v.frame_id, v.name, v.embedding, v.distance, v.p_value, v.extrapolated, v.sigma, v.threshold, v.tier, v.reason,
    element_at(v.neighbours, 1).frame_id AS nearest_frame_id,
    element_at(v.neighbours, 1).name AS nearest_name,
    v.verdict_id, v.judged_at,
    f.obs_time, f.night, f.instrument, f.telescope, f.filter, f.exposure_s, f.object, f.ra, f.dec, f.zone,
    f.background, f.noise, f.fwhm_px, f.archive_uri
FROM latest_verdicts AS v
INNER JOIN frames AS f ON f.frame_id = v.frame_id
WHERE v.status = 'anomaly'
