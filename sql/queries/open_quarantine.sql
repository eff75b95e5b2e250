-- Codes that still hold frames in quarantine, the most first
SELECT code, still_quarantined, redriven, last_at, latest_name, latest_reason
FROM quarantine_reasons
WHERE still_quarantined > 0
ORDER BY still_quarantined DESC, code
