//! Charges for overdrafts, in every order in which postings may come.

use headwater_book::bank::{
    Account, Answer, Charge, Happened, Order, Posting, answer, judge, told, topology,
};
use headwater_stage::{Event, pipe, read, topic};

use crate::support::{APPLICATION, PARTITIONS, SEEDS, TROUBLES, Trouble, driver, fed};

const BEGIN: i64 = 1_700_000_000_000;

fn events(happened: &Happened, order: Order) -> Vec<Event> {
    let ends = |name| happened.ends(APPLICATION, name, PARTITIONS);
    match order {
        Order::Timestamp => {
            let (late, early) = (happened.deposits(APPLICATION), happened.withdrawals(APPLICATION));
            [early, late, ends("deposits"), ends("withdrawals")].concat()
        }
        _ => [happened.in_one_topic(APPLICATION), ends("postings")].concat(),
    }
}

fn run(happened: &Happened, order: Order, trouble: Trouble) -> Answer {
    let mut driver = fed(topology(APPLICATION, order).unwrap(), events(happened, order), trouble);
    let accounts = read::<Account>(&mut driver, &topic(APPLICATION, "accounts"));
    let charges = read::<Charge>(&mut driver, &topic(APPLICATION, "charges"));
    told(&accounts, &charges)
}

#[test]
fn only_who_orders_postings_charges_rightly() {
    for seed in SEEDS {
        let happened = Happened::draw(seed, BEGIN);
        let right = answer(happened.postings());
        assert!(right.charges.len() > 10, "seed {seed}: too few overdrafts to mean anything");
        for order in [Order::Arrival, Order::Grace, Order::Timestamp] {
            judge(order, &run(&happened, order, Trouble::None), &right).unwrap();
        }
    }
}

#[test]
fn crashes_and_lost_stores_change_no_charge() {
    let happened = Happened::draw(7, BEGIN);
    let right = answer(happened.postings());
    for order in [Order::Grace, Order::Timestamp] {
        for trouble in TROUBLES {
            assert_eq!(run(&happened, order, trouble), right, "{order:?} {trouble:?}");
        }
    }
}

/// The book's own case: a deposit of 100, then a withdrawal of 60 that is seen first.
fn deposit_seen_last(order: Order, withdrawals: &str, deposits: &str) -> Vec<(String, Charge)> {
    let mut driver = driver(topology(APPLICATION, order).unwrap());
    let event = |name: &str, key: &str, id, cents, at| {
        Event::new(topic(APPLICATION, name), key, &Posting { id, at, cents }, at)
    };
    let later = BEGIN + 600_000;
    let mut all = vec![
        event(withdrawals, "ann", 2, -6_000, BEGIN + 2_000),
        event(deposits, "ann", 1, 10_000, BEGIN + 1_000),
        event(withdrawals, "ann", 3, -1_000, later),
    ];
    for partition in 0..PARTITIONS {
        for name in [withdrawals, deposits] {
            all.push(Event { partition: Some(partition), ..event(name, "end", 4, 0, later) });
        }
    }
    pipe(&mut driver, all).unwrap();
    told(&[], &read(&mut driver, &topic(APPLICATION, "charges"))).charges
}

#[test]
fn a_withdrawal_that_overtakes_its_deposit_is_charged_only_as_they_come() {
    let charges = deposit_seen_last(Order::Arrival, "postings", "postings");
    assert_eq!(charges, [("ann".to_owned(), Charge { posting: 2, cents: 2_500 })]);
    assert_eq!(deposit_seen_last(Order::Grace, "postings", "postings"), []);
    assert_eq!(deposit_seen_last(Order::Timestamp, "withdrawals", "deposits"), []);
}

#[test]
fn what_comes_after_the_grace_period_is_set_aside_and_changes_no_account() {
    let happened = Happened::draw(3, BEGIN);
    let mut driver =
        fed(topology(APPLICATION, Order::Grace).unwrap(), events(&happened, Order::Grace), Trouble::None);
    let accounts = topic(APPLICATION, "accounts");
    read::<Account>(&mut driver, &accounts);
    let late = Posting { id: 9_999, at: BEGIN, cents: -1_000_000 };
    pipe(&mut driver, [Event::new(topic(APPLICATION, "postings"), "account-00", &late, BEGIN)]).unwrap();
    driver.commit().unwrap();
    driver.commit().unwrap();
    assert_eq!(read::<Account>(&mut driver, &accounts), []);
    let aside = read::<Posting>(&mut driver, &topic(APPLICATION, "late"));
    assert_eq!(aside, [("account-00".to_owned(), Some(late), BEGIN)]);
}
