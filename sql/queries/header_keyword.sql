-- Values of one header keyword, with the frames that carry each
-- parameter: keyword varchar
SELECT
    element_at(header, :keyword) AS value,
    count(*) AS frames,
    min(night) AS first_night,
    max(night) AS last_night
FROM frames
GROUP BY element_at(header, :keyword)
ORDER BY frames DESC, value
