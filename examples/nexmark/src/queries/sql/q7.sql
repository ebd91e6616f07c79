WITH ranked AS (SELECT *, MAX(price) OVER (PARTITION BY at / 10000) AS highest FROM bid)
SELECT auction, bidder, price, at FROM ranked WHERE price = highest
