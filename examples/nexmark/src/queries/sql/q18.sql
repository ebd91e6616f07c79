WITH ranked AS (
    SELECT *, ROW_NUMBER() OVER (PARTITION BY bidder, auction ORDER BY at DESC, price DESC) AS place FROM bid
)
SELECT auction, bidder, price, at FROM ranked WHERE place = 1
