SELECT CAST(auction AS TEXT), at / 86400000 * 86400000, COUNT(*),
    SUM(price < 10000), SUM(price >= 10000 AND price < 1000000), SUM(price >= 1000000),
    MIN(price), MAX(price), SUM(price) / COUNT(*), SUM(price)
FROM bid
GROUP BY auction, at / 86400000
