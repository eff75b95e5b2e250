-- Why frames were quarantined, and how many still are
SELECT
    code,
    count(*) AS frames,
    count_if(last_event = 'quarantined') AS still_quarantined,
    count_if(last_event = 'redriven') AS redriven,
    min(first_at) AS first_at,
    max(last_at) AS last_at,
    max_by(name, last_at) AS latest_name,
    max_by(reason, last_at) AS latest_reason
FROM (
    SELECT
        frame_id, code,
        max_by(event, "at") AS last_event,
        max_by(name, "at") AS name,
        max_by(reason, "at") AS reason,
        min("at") AS first_at,
        max("at") AS last_at
    FROM quarantine
    GROUP BY frame_id, code
) AS histories
GROUP BY code
