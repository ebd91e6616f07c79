//! Every query answers as SQL does, over the same events.

use headwater_nexmark::QUERIES;
use headwater_nexmark::events::draw;
use headwater_nexmark::reference::Reference;
use headwater_nexmark::run::{compare, in_memory};

const BEGIN: i64 = 1_704_067_200_000;

#[test]
fn every_query_answers_as_sql_does() {
    for (seed, events, partitions) in [(1, 20_000, 3), (2, 4_000, 1), (3, 4_000, 5)] {
        let happened = draw(seed, BEGIN, events);
        let reference = Reference::of(&happened).unwrap();
        for query in QUERIES {
            let expected = reference.answer(query).unwrap();
            // An answer without rows agrees with a topology that does nothing.
            assert!(!expected.is_empty() || events < 20_000, "{} has no rows", query.name);
            let ran = in_memory(query, &happened, partitions, |_, _| Ok(())).unwrap();
            compare(query, &ran.rows, &expected).unwrap();
        }
    }
}

#[test]
fn crashes_and_lost_stores_change_no_answer() {
    let happened = draw(4, BEGIN, 4_000);
    let reference = Reference::of(&happened).unwrap();
    for query in QUERIES {
        let ran = in_memory(query, &happened, 2, |driver, place| {
            Ok(if place % 2 == 0 { driver.crash() } else { driver.crash_and_wipe() }?)
        });
        compare(query, &ran.unwrap().rows, &reference.answer(query).unwrap()).unwrap();
    }
}

#[test]
fn the_same_seed_draws_the_same_events_and_another_one_others() {
    assert_eq!(draw(5, BEGIN, 500), draw(5, BEGIN, 500));
    assert_ne!(draw(5, BEGIN, 500), draw(6, BEGIN, 500));
}

#[test]
fn a_row_that_is_wrong_missing_or_there_twice_is_told() {
    let happened = draw(1, BEGIN, 2_000);
    let query = &QUERIES[0];
    let right = Reference::of(&happened).unwrap().answer(query).unwrap();
    compare(query, &right, &right).unwrap();
    let changed = |change: &dyn Fn(&mut Vec<String>)| {
        let mut rows = right.clone();
        change(&mut rows);
        compare(query, &rows, &right).unwrap_err()
    };
    changed(&|rows| rows[7] = "wrong".to_owned());
    changed(&|rows| drop(rows.remove(7)));
    changed(&|rows| rows.insert(7, rows[7].clone()));
}
