-- Sky zones, instruments and filters with the most flagged frames
-- parameter: top bigint 20
SELECT zone, instrument, filter, frames, flagged, flag_rate
FROM (
    SELECT
        zone, instrument, filter, frames, flagged,
        CAST(flagged AS double) / frames AS flag_rate,
        row_number() OVER (ORDER BY flagged DESC, frames, zone, instrument, filter) AS place
    FROM (
        SELECT
            zone, instrument, filter,
            count(DISTINCT frame_id) AS frames,
            count(DISTINCT CASE WHEN status = 'anomaly' THEN frame_id END) AS flagged
        FROM latest_verdicts
        GROUP BY zone, instrument, filter
    ) AS fields
    WHERE flagged > 0
) AS ranked
WHERE place <= :top
ORDER BY place
