SELECT auction, bidder, printf('%.3f', 0.908 * price), at FROM bid
