//! What advertisers pay, whatever comes when.

use std::collections::BTreeMap;

use headwater_book::advertising::{
    Bill, Touched, advertisements, answer, changes, draw, end, events, told, topology,
};
use headwater_stage::{Event, read, topic};

use crate::support::{APPLICATION, PARTITIONS, SEEDS, TROUBLES, Trouble, fed};

const BEGIN: i64 = 1_700_000_000_000;

fn entities(seed: u64) -> Vec<Event> {
    [advertisements(APPLICATION, seed, BEGIN), changes(APPLICATION, BEGIN + 1)].concat()
}

fn run(events: Vec<Event>, trouble: Trouble) -> BTreeMap<String, Bill> {
    let mut driver = fed(topology(APPLICATION).unwrap(), events, trouble);
    told(&read(&mut driver, &topic(APPLICATION, "bills")))
}

fn day(happened: &[Touched]) -> Vec<Event> {
    [events(APPLICATION, happened), end(APPLICATION, happened, PARTITIONS)].concat()
}

#[test]
fn bills_are_those_of_lists_and_loops_whatever_crashes() {
    for seed in SEEDS {
        let happened = draw(seed, BEGIN);
        let right = answer(&happened, &entities(seed));
        // Twelve advertisements, one of which nobody pays for, and one that was withdrawn.
        assert_eq!(right.len(), 10, "seed {seed}");
        for trouble in TROUBLES {
            let events = [entities(seed), day(&happened)].concat();
            assert_eq!(run(events, trouble), right, "seed {seed} {trouble:?}");
        }
    }
}

#[test]
fn advertisements_that_come_after_everything_else_are_billed_the_same() {
    let happened = draw(6, BEGIN);
    let right = answer(&happened, &entities(6));
    assert_eq!(run([day(&happened), entities(6)].concat(), Trouble::None), right);
    let between =
        [advertisements(APPLICATION, 6, BEGIN), day(&happened), changes(APPLICATION, BEGIN + 1)].concat();
    assert_eq!(run(between, Trouble::None), right);
}

#[test]
fn views_and_clicks_in_any_order_lead_to_the_same_bills() {
    let mut happened = draw(5, BEGIN);
    let right = run([entities(5), day(&happened)].concat(), Trouble::None);
    happened.sort_by_key(|touched| touched.at);
    assert_eq!(run([entities(5), day(&happened)].concat(), Trouble::None), right);
}

#[test]
fn a_click_in_another_session_than_its_view_is_not_billed() {
    let touched = |click, minute: i64| Touched {
        user: "ann".to_owned(),
        advertisement: "advertisement-03".to_owned(),
        click,
        at: BEGIN + minute * 60_000,
    };
    let billed = |minute| {
        let events = [entities(1), day(&[touched(false, 0), touched(true, minute)])].concat();
        run(events, Trouble::None).get("advertisement-03").map(|bill| bill.conversions)
    };
    assert_eq!(billed(30), Some(1));
    assert_eq!(billed(31), None);
}
