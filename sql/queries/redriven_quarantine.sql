-- Quarantined frames that were driven again, and what came of them
SELECT
    q.frame_id, q.name, q.code, q.quarantined_at, q.redriven_at,
    date_diff('minute', q.quarantined_at, q.redriven_at) AS waited_min,
    CASE
        WHEN v.status IS NOT NULL THEN v.status
        WHEN f.frame_id IS NOT NULL THEN 'not judged'
        ELSE 'not readable'
    END AS outcome
FROM (
    SELECT
        frame_id,
        max_by(name, "at") AS name,
        min_by(code, "at") AS code,
        min(CASE WHEN event = 'quarantined' THEN "at" END) AS quarantined_at,
        max(CASE WHEN event = 'redriven' THEN "at" END) AS redriven_at
    FROM quarantine
    GROUP BY frame_id
) AS q
LEFT JOIN frames AS f ON f.frame_id = q.frame_id
LEFT JOIN latest_verdicts AS v ON v.frame_id = q.frame_id
WHERE q.redriven_at IS NOT NULL
ORDER BY q.redriven_at, q.frame_id, outcome
