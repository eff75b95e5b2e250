-- Median seeing, sky and noise of every instrument, night by night
-- parameter: instrument varchar null
SELECT
    instrument, night,
    count(fwhm_px) AS measured,
    approx_percentile(fwhm_px, 5e-1) AS median_fwhm_px,
    approx_percentile(fwhm_px, 9e-1) AS p90_fwhm_px,
    approx_percentile(background, 5e-1) AS median_background,
    approx_percentile(noise, 5e-1) AS median_noise
FROM frames
WHERE night IS NOT NULL AND (:instrument IS NULL OR instrument = :instrument)
GROUP BY instrument, night
ORDER BY instrument, night
