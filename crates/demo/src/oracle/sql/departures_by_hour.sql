SELECT
    origin || '|' || strftime('%Y-%m-%dT%H:%M:%SZ', hour_start, 'unixepoch') AS _key,
    origin,
    strftime('%Y-%m-%dT%H:%M:%SZ', hour_start, 'unixepoch') AS window_start,
    count(*) AS departures,
    sum(dep_delay) AS sum_dep_delay_minutes,
    CAST(sum(dep_delay) AS REAL) / count(*) AS mean_dep_delay_minutes
FROM main.flights JOIN main.times USING (id)
WHERE departed_at IS NOT NULL AND NOT departure_dropped
GROUP BY origin, hour_start
ORDER BY _key
