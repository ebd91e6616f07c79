WITH final AS (
    SELECT auction.id, auction.seller, auction.expires, MAX(bid.price) AS price
    FROM auction JOIN bid ON bid.auction = auction.id AND bid.at BETWEEN auction.at AND auction.expires
    GROUP BY auction.id, auction.seller, auction.expires
),
ranked AS (SELECT *, ROW_NUMBER() OVER (PARTITION BY seller ORDER BY expires DESC, id DESC) AS place FROM final)
SELECT CAST(seller AS TEXT), SUM(price) / COUNT(*) FROM ranked WHERE place <= 10 GROUP BY seller
