WITH legs AS (
    SELECT tailnum, departed_at, landed_at
    FROM main.flights JOIN main.times USING (id)
    WHERE tailnum IS NOT NULL AND status = 'landed' AND NOT leg_dropped
),
starts AS (
    -- Legs exactly 12 hours apart belong together: a session's gap is inclusive, as Kafka has it.
    SELECT *, departed_at - lag(departed_at) OVER (PARTITION BY tailnum ORDER BY departed_at) > 12 * 3600 AS starts
    FROM legs
),
numbered AS (
    SELECT *, sum(ifnull(starts, 1)) OVER (PARTITION BY tailnum ORDER BY departed_at) AS rotation
    FROM starts
)
SELECT
    tailnum || '|' || strftime('%Y-%m-%dT%H:%M:%SZ', min(departed_at), 'unixepoch') AS _key,
    tailnum,
    strftime('%Y-%m-%dT%H:%M:%SZ', min(departed_at), 'unixepoch') AS first_departure,
    strftime('%Y-%m-%dT%H:%M:%SZ', max(landed_at), 'unixepoch') AS last_arrival,
    count(*) AS legs
FROM numbered
GROUP BY tailnum, rotation
ORDER BY _key
