-- Frames, verdicts and sky of every night and instrument
-- What could not be read has no night or instrument: it counts on the UTC day it was received, without an instrument.
SELECT
    night, instrument,
    sum(frames) AS frames,
    sum(flagged) AS flagged,
    sum(no_reference) AS no_reference,
    sum(not_searched) AS not_searched,
    sum(unjudged) AS unjudged,
    sum(unreadable_deliveries) AS unreadable_deliveries,
    max(median_background) AS median_background,
    max(median_fwhm_px) AS median_fwhm_px
FROM (
    SELECT
        f.night, f.instrument,
        count(*) AS frames,
        count_if(s.flagged) AS flagged,
        count_if(s.no_reference) AS no_reference,
        count_if(s.not_searched) AS not_searched,
        count_if(s.frame_id IS NULL) AS unjudged,
        0 AS unreadable_deliveries,
        approx_percentile(f.background, 5e-1) AS median_background,
        approx_percentile(f.fwhm_px, 5e-1) AS median_fwhm_px
    FROM frames AS f
    LEFT JOIN (
        -- A frame judged in several embeddings is one frame.
        SELECT
            frame_id,
            bool_or(status = 'anomaly') AS flagged,
            bool_or(status = 'no_reference') AS no_reference,
            bool_or(status = 'not_searched') AS not_searched
        FROM latest_verdicts
        GROUP BY frame_id
    ) AS s ON s.frame_id = f.frame_id
    GROUP BY f.night, f.instrument
    UNION ALL
    SELECT
        CAST(received_at AS date) AS night, CAST(NULL AS varchar) AS instrument,
        0 AS frames, 0 AS flagged, 0 AS no_reference, 0 AS not_searched, 0 AS unjudged,
        count(*) AS unreadable_deliveries,
        CAST(NULL AS double) AS median_background, CAST(NULL AS double) AS median_fwhm_px
    FROM deliveries
    WHERE outcome = 'quarantined'
    GROUP BY CAST(received_at AS date)
) AS parts
GROUP BY night, instrument
