WITH final AS (
    SELECT auction.id, auction.category, MAX(bid.price) AS price
    FROM auction JOIN bid ON bid.auction = auction.id AND bid.at BETWEEN auction.at AND auction.expires
    GROUP BY auction.id, auction.category
)
SELECT CAST(category AS TEXT), SUM(price) / COUNT(*) FROM final GROUP BY category
