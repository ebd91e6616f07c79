WITH ranked AS (
    SELECT auction.*, bid.bidder, bid.price, bid.at AS bid_at,
        ROW_NUMBER() OVER (PARTITION BY auction.id ORDER BY bid.price DESC, bid.at, bid.bidder) AS place
    FROM auction JOIN bid ON bid.auction = auction.id AND bid.at BETWEEN auction.at AND auction.expires
)
SELECT id, item, at, expires, seller, category, bidder, price, bid_at FROM ranked WHERE place = 1
