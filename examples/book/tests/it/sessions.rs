//! Sessions: the same whatever the order, each told once, nothing told twice.

use headwater_book::sessions::{
    GAP, Happened, Interaction, Session, answer, draw, end, events, forgotten, told, topology,
};
use headwater_stage::{Event, pipe, read, topic};

use crate::support::{APPLICATION, PARTITIONS, SEEDS, TROUBLES, Trouble, driver, fed};

const BEGIN: i64 = 1_700_000_000_000;

fn run(happened: &[Happened], trouble: Trouble) -> Vec<(String, Session)> {
    let events = [events(APPLICATION, happened), end(APPLICATION, happened, PARTITIONS)].concat();
    let mut driver = fed(topology(APPLICATION).unwrap(), events, trouble);
    assert_eq!(read::<Interaction>(&mut driver, &topic(APPLICATION, "late")), []);
    told(&read(&mut driver, &topic(APPLICATION, "sessions")))
}

#[test]
fn sessions_are_those_of_sorted_lists_whatever_crashes() {
    for seed in SEEDS {
        let happened = draw(seed, BEGIN);
        let right = answer(&happened);
        assert!(right.len() > 60, "seed {seed}: {} sessions", right.len());
        for trouble in TROUBLES {
            assert_eq!(run(&happened, trouble), right, "seed {seed} {trouble:?}");
        }
    }
}

#[test]
fn the_order_of_arrival_changes_no_session() {
    let happened = draw(8, BEGIN);
    let mut sorted = happened.clone();
    sorted.sort_by_key(|(_, _, at)| *at);
    assert_ne!(happened, sorted);
    assert_eq!(run(&happened, Trouble::None), run(&sorted, Trouble::None));
}

#[test]
fn a_session_is_told_when_it_is_over_and_not_a_millisecond_earlier() {
    let mut driver = driver(topology(APPLICATION).unwrap());
    let at = |minute: i64| BEGIN + minute * 60_000;
    let happens = |driver: &mut _, partition, at| {
        let page = Interaction { page: "home".to_owned() };
        let event = Event::new(topic(APPLICATION, "interactions"), "ann", &page, at);
        pipe(driver, [Event { partition: Some(partition), ..event }]).unwrap();
    };
    happens(&mut driver, 0, at(0));
    happens(&mut driver, 0, at(30));
    // Thirty minutes after the last interaction and ten of grace are over everywhere a millisecond after minute 70.
    happens(&mut driver, 1, at(71));
    happens(&mut driver, 0, at(70));
    assert_eq!(read::<Session>(&mut driver, &topic(APPLICATION, "sessions")), []);
    happens(&mut driver, 0, at(70) + 1);
    let sessions = told(&read(&mut driver, &topic(APPLICATION, "sessions")));
    let pages = vec![("home".to_owned(), 2)];
    let session = Session { start: at(0), end: at(30), interactions: 2, pages };
    assert_eq!(sessions, [("ann".to_owned(), session)]);
    assert_eq!(at(30) - at(0), GAP.as_millis() as i64);
}

#[test]
fn what_comes_hours_late_is_set_aside_and_told_sessions_stay() {
    let happened = draw(2, BEGIN);
    let events = [events(APPLICATION, &happened), end(APPLICATION, &happened, PARTITIONS)].concat();
    let mut driver = fed(topology(APPLICATION).unwrap(), events, Trouble::None);
    read::<Session>(&mut driver, &topic(APPLICATION, "sessions"));
    pipe(&mut driver, [forgotten(APPLICATION, &happened)]).unwrap();
    driver.commit().unwrap();
    assert_eq!(read::<Interaction>(&mut driver, &topic(APPLICATION, "late")).len(), 1);
    assert_eq!(read::<Session>(&mut driver, &topic(APPLICATION, "sessions")), []);
}
