SELECT
    origin || '|' || dest AS _key,
    origin,
    dest,
    count(*) AS flights,
    sum(arr_delay) AS sum_arr_delay_minutes,
    CAST(sum(arr_delay) AS REAL) / count(*) AS mean_arr_delay_minutes
FROM main.flights JOIN main.times USING (id)
WHERE status = 'landed'
GROUP BY origin, dest
ORDER BY _key
