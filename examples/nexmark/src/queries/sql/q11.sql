WITH paused AS (
    SELECT bidder, at, at - LAG(at) OVER (PARTITION BY bidder ORDER BY at) > 10000 AS begins FROM bid
),
numbered AS (
    SELECT bidder, at, SUM(COALESCE(begins, 1)) OVER (PARTITION BY bidder ORDER BY at) AS session FROM paused
)
SELECT CAST(bidder AS TEXT), COUNT(*), MIN(at), MAX(at) + 10000 FROM numbered GROUP BY bidder, session
