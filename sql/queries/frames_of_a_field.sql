-- Frames whose footprint touches a zone, with their newest status
-- parameter: zone bigint
SELECT f.frame_id, f.name, f.obs_time, f.instrument, f.filter, f.exposure_s, v.embedding, v.status, v.p_value
FROM frames AS f
LEFT JOIN latest_verdicts AS v ON v.frame_id = f.frame_id
WHERE contains(f.zones, :zone)
ORDER BY f.obs_time, f.frame_id, v.embedding
