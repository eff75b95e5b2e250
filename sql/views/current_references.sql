-- The references in force now, folded from the log of entries and exits
SELECT reference_set, frame_id, name, embedding, added_at, added_by, why
FROM (
    SELECT
        reference_set, frame_id, name, embedding, action, "at" AS added_at, "by" AS added_by, why,
        -- An entry and an exit at one instant leave the frame out: a doubtful reference does more harm than a missing one.
        row_number() OVER (
            PARTITION BY reference_set, frame_id, embedding ORDER BY "at" DESC, action DESC
        ) AS recency
    FROM reference_members
) AS entries
WHERE recency = 1 AND action = 'add'
