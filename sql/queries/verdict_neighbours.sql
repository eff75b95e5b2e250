-- The references a frame's newest verdicts were compared with, one a row
-- parameter: frame_id varchar
SELECT v.embedding, n.place, n.frame_id, n.name, n.distance, n.distance / v.distance AS relative_distance
FROM latest_verdicts AS v
CROSS JOIN UNNEST(v.neighbours) WITH ORDINALITY AS n (frame_id, name, distance, place)
WHERE v.frame_id = :frame_id
ORDER BY v.embedding, n.place
