WITH ranked AS (
    SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC, at, bidder) AS place FROM bid
)
SELECT auction, bidder, price, at, place FROM ranked WHERE place <= 10
