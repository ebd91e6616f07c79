WITH hop(back) AS (VALUES (0), (1), (2), (3), (4)),
counted AS (
    SELECT (at / 2000 - back) * 2000 AS start, auction, COUNT(*) AS num
    FROM bid CROSS JOIN hop
    GROUP BY 1, 2
),
ranked AS (SELECT *, MAX(num) OVER (PARTITION BY start) AS most FROM counted)
SELECT CAST(start AS TEXT), CAST(auction AS TEXT), num FROM ranked WHERE num = most
