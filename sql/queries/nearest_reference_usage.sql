-- References in force by how often each was the nearest, the unused first
SELECT
    reference_set, embedding, name, frame_id, times_nearest, times_nearest_anomaly, last_nearest_at, night, fwhm_px
FROM reference_health
ORDER BY times_nearest, reference_set, embedding, name, frame_id
