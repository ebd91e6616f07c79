//! Stock levels: each movement counts once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use headwater::{StateStore, StreamsApp};
use headwater_book::stock::{Moved, Movement, OPENING, REMEMBERED, Variant, answer, draw, events, topology};
use headwater_runtime::{FaultHook, FaultPoint};
use headwater_stage::{Event, Output, Row, Stage, pipe, read, topic};

use crate::support::{self, APPLICATION, SEEDS, TROUBLES, Trouble, driver, fed};

const BEGIN: i64 = 1_700_000_000_000;
const VARIANTS: [Variant; 2] = [Variant::Transactions, Variant::Ids];

fn levels(rows: &[Row<i64>]) -> BTreeMap<String, i64> {
    rows.iter().filter_map(|(item, level, _)| Some((item.clone(), (*level)?))).collect()
}

#[test]
fn each_movement_counts_once_whatever_crashes() {
    for seed in SEEDS {
        let happened = &draw(seed, BEGIN)[..800];
        for (variant, trouble) in
            VARIANTS.into_iter().flat_map(|variant| TROUBLES.map(|trouble| (variant, trouble)))
        {
            let events = events(APPLICATION, happened, variant);
            let mut driver = fed(topology(APPLICATION, variant).unwrap(), events, trouble);
            let rows = read(&mut driver, &topic(APPLICATION, "levels"));
            assert_eq!(levels(&rows), answer(happened), "seed {seed} {variant:?} {trouble:?}");
            if variant == Variant::Transactions {
                assert_eq!(rows.len(), happened.len(), "seed {seed} {trouble:?}");
            }
        }
    }
}

#[test]
fn movements_in_any_order_lead_to_the_same_levels() {
    let happened = &draw(9, BEGIN)[..500];
    for variant in VARIANTS {
        let mut events = events(APPLICATION, happened, variant);
        events.reverse();
        let mut driver = fed(topology(APPLICATION, variant).unwrap(), events, Trouble::None);
        assert_eq!(
            levels(&read(&mut driver, &topic(APPLICATION, "levels"))),
            answer(happened),
            "{variant:?}"
        );
    }
}

/// The last level after the same sale was told at these times.
fn sold_twice(variant: Variant, times: [i64; 2]) -> i64 {
    let mut driver = driver(topology(APPLICATION, variant).unwrap());
    for at in times {
        let sale = Movement { till: 1, receipt: 7, line: 1, at, pieces: 5 };
        pipe(&mut driver, [Event::new(topic(APPLICATION, "sales"), "tea", &sale, at)]).unwrap();
    }
    read::<i64>(&mut driver, &topic(APPLICATION, "levels")).pop().unwrap().1.unwrap()
}

#[test]
fn an_id_is_remembered_for_the_time_that_is_stated_and_no_longer() {
    let remembered = REMEMBERED.as_millis() as i64;
    assert_eq!(sold_twice(Variant::Ids, [BEGIN, BEGIN]), OPENING - 5);
    assert_eq!(sold_twice(Variant::Ids, [BEGIN, BEGIN + remembered]), OPENING - 5);
    assert_eq!(sold_twice(Variant::Ids, [BEGIN, BEGIN + remembered + 1]), OPENING - 10);
    // Transactions keep out what a crash would repeat, not what the till says twice.
    assert_eq!(sold_twice(Variant::Transactions, [BEGIN, BEGIN]), OPENING - 10);
}

/// Dies when the changelog has been written and the offsets have not: the records come again, the state has them already.
async fn killed_between_state_and_offsets(
    stage: &Stage,
    variant: Variant,
    happened: &[Moved],
) -> Vec<Row<i64>> {
    stage.create(&["sales", "returns", "levels"]).await.unwrap();
    let topology = || topology(stage.application_id(), variant).unwrap();
    let half = happened.len() / 2;
    stage.feed(events(stage.application_id(), &happened[..half], Variant::Transactions)).await.unwrap();
    let mut config = stage.config();
    config.guarantee = variant.guarantee();
    config.state_store = StateStore::Memory;
    config.instance = Some("one".to_owned());
    let visits = AtomicU32::new(0);
    let dies = move |point| point == FaultPoint::BeforeCommit && visits.fetch_add(1, Ordering::Relaxed) == 0;
    let mut faulty = config.clone();
    faulty.fault = Some(FaultHook::new(dies));
    let app = StreamsApp::start(topology(), faulty).await.unwrap();
    app.wait().await.unwrap_err();
    app.stop().await.unwrap();

    let app = StreamsApp::start(topology(), config).await.unwrap();
    stage.feed(events(stage.application_id(), &happened[half..], Variant::Transactions)).await.unwrap();
    let mut output: Output<i64> = stage.output("levels").await.unwrap();
    let right = answer(happened);
    let all = |output: &Output<i64>| output.rows().len() >= happened.len() && levels(output.rows()) == right;
    let settled = output.until("all is counted", all).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    app.stop().await.unwrap();
    output.to_the_end().await.unwrap();
    settled.unwrap();
    output.rows().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_between_state_and_offsets_counts_nothing_twice() {
    let cluster = support::cluster::Cluster::start().await;
    for variant in VARIANTS {
        let stage = Stage::open(&cluster.options(2), "test-stock").await.unwrap();
        let happened = &draw(4, stage.begin())[..600];
        let rows = killed_between_state_and_offsets(&stage, variant, happened).await;
        assert_eq!(levels(&rows), answer(happened), "{variant:?}");
        match variant {
            Variant::Transactions => assert_eq!(rows.len(), happened.len()),
            // Otherwise nothing had been repeated, and the test would say nothing.
            Variant::Ids => assert!(rows.len() > happened.len(), "{} outputs", rows.len()),
        }
        stage.close().await.unwrap();
    }
    cluster.stop().await;
}
