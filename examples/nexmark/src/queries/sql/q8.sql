SELECT DISTINCT CAST(person.id AS TEXT), person.name, person.at / 10000 * 10000
FROM person JOIN auction ON auction.seller = person.id AND auction.at / 10000 = person.at / 10000
