//! A new version finds the state of the old one, also where it looks for it elsewhere, and what it ends with is what a service
//! has that was built from zero on the same input. Runs on the Apache Kafka at HEADWATER_TEST_BOOTSTRAP, too.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use headwater_model::{Bytes, Record};
use headwater_runtime::migrate::{self, MigrateError, MigrationPlan, Options};
use headwater_runtime::{AppConfig, StreamsApp};
use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    Consumed, Fate, Grouped, KStream, Materialized, Migration, Produced, Renames, StreamsBuilder,
    TimeWindows, Topology, time_windowed,
};

use crate::support::{self, Cluster, eventually, unique};

const WINDOW: Duration = Duration::from_secs(10);

/// The topics of a test, whatever the application is called.
struct Topics {
    orders: String,
    bills: String,
}

impl Topics {
    async fn new(cluster: &Cluster) -> Self {
        let name = unique("shop");
        let topics = Self { orders: format!("{name}-orders"), bills: format!("{name}-bills") };
        cluster.topic(&topics.orders, 2).await;
        cluster.topic(&topics.bills, 2).await;
        topics
    }
}

/// Counts orders by value, in all and in windows that are told once they are closed. The second has generated names all over.
fn counts(orders: &KStream<String, String>, id: &str, (by, store): (&str, &str)) {
    let by_value = |named: Option<&str>| {
        let grouped = Grouped::with(string(), string());
        let grouped = named.into_iter().fold(grouped, Grouped::named);
        orders.group_by(|_, value| value.clone(), grouped)
    };
    by_value(Some(by))
        .count(Materialized::named(store))
        .to(&format!("{id}-counts"), Produced::with(string(), i64()));
    by_value(None)
        .windowed_by(TimeWindows::of(WINDOW).grace(Duration::from_secs(5)))
        .emit_on_close()
        .count(Materialized::new())
        .to(&format!("{id}-windows"), Produced::with(time_windowed(string(), WINDOW), i64()));
}

fn first(id: &str, topics: &Topics) -> Topology {
    let builder = StreamsBuilder::new(id);
    counts(&builder.stream(&topics.orders, Consumed::with(string(), string())), id, ("by-value", "counts"));
    builder.build().unwrap()
}

/// Another sub-topology comes first, a filter moves all generated names, and what has a name is called otherwise.
fn second(id: &str, topics: &Topics) -> Topology {
    let builder = StreamsBuilder::new(id);
    builder
        .stream(&topics.bills, Consumed::with(string(), string()))
        .group_by_key(Grouped::with(string(), string()))
        .count(Materialized::named("bills"));
    let orders = builder.stream(&topics.orders, Consumed::with(string(), string()));
    counts(&orders.filter(|_, value| value != "no such value"), id, ("by-kind", "totals"));
    builder.build().unwrap()
}

async fn start(cluster: &Cluster, topology: Topology, state: &Path) -> StreamsApp {
    let mut config = AppConfig::new(&cluster.bootstrap, topology.application_id());
    config.security = support::security();
    config.state_dir = state.to_owned();
    config.commit_interval = Duration::from_millis(50);
    config.session_timeout = Duration::from_secs(6);
    StreamsApp::start(topology, config).await.unwrap()
}

/// Returns when all is processed and no member is left, which a stopped instance is until its session ends.
async fn stop(cluster: &Cluster, app: StreamsApp, id: &str) {
    app.stop().await.unwrap();
    let left = async || cluster.client.describe_group(id).await.unwrap().members.is_empty();
    eventually("the group has no members", left).await;
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// `from..to` of an endless input: one record in seven is late, and one in a hundred very late.
async fn order(cluster: &Cluster, topic: &str, begun: i64, from: i64, to: i64) {
    let key = |n: i64| format!("k{}", n % 13);
    let value = |n: i64| format!("v{}", n * n % 11);
    let time = |n: i64| {
        let late = if n % 100 == 99 {
            40_000
        } else if n % 7 == 6 {
            4_000
        } else {
            0
        };
        begun + n * 150 - late
    };
    let records: Vec<_> = (from..to).map(|n| (key(n), value(n), time(n))).collect();
    let records: Vec<_> =
        records.iter().map(|(key, value, time)| (key.as_str(), value.as_str(), *time)).collect();
    cluster.produce(topic, &records).await;
}

type State = BTreeMap<Bytes, Bytes>;

/// What a store holds that is made of this changelog.
async fn state(cluster: &Cluster, changelog: &str) -> State {
    let mut state = State::new();
    for record in cluster.read(changelog).await {
        match record.value {
            Some(value) => state.insert(record.key.unwrap(), value),
            None => state.remove(&record.key.unwrap()),
        };
    }
    state
}

fn sorted(records: Vec<Record>) -> Vec<(Option<Bytes>, Option<Bytes>)> {
    let mut rows: Vec<_> = records.into_iter().map(|record| (record.key, record.value)).collect();
    rows.sort();
    rows
}

fn changelogs(topology: &Topology, store: impl Fn(&str) -> bool) -> Vec<String> {
    let parts = topology.describe().subtopologies;
    let stores = parts.into_iter().flat_map(|part| part.stores).filter(|kept| store(&kept.name));
    stores.filter_map(|store| store.changelog).collect()
}

/// Runs until `outputs` has `count` records that are committed.
async fn until(cluster: &Cluster, output: &str, count: usize) {
    eventually(&format!("{output} has {count} records"), async || cluster.read(output).await.len() >= count)
        .await;
}

/// Breaks each run off before its second commit, until there is nothing left to break off.
async fn migrate_with_kills(
    cluster: &Cluster,
    migration: &Migration,
    new: &Topology,
    options: &Options,
) -> (usize, MigrationPlan) {
    let (mut kills, description) = (0, new.describe());
    loop {
        let mut commits = 0;
        let dying = |_| {
            commits += 1;
            if commits == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        match migrate::execute(&cluster.client, migration, &description, options, dying).await {
            Ok(plan) => return (kills, plan),
            Err(MigrateError::Interrupted) => kills += 1,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_renamed_and_renumbered_goes_on_as_if_it_had_always_been_called_so() {
    let cluster = Cluster::start().await;
    let (topics, begun) = (Topics::new(&cluster).await, now());
    let (id, zero) = (unique("moved"), unique("zero"));
    let state_dir = tempfile::tempdir().unwrap();
    order(&cluster, &topics.orders, begun, 0, 600).await;
    let app = start(&cluster, first(&id, &topics), state_dir.path()).await;
    until(&cluster, &format!("{id}-counts"), 600).await;
    // The application is stopped wherever it happens to be in these.
    order(&cluster, &topics.orders, begun, 600, 900).await;
    stop(&cluster, app, &id).await;

    let (old, new) = (first(&id, &topics), second(&id, &topics));
    let renames = Renames::new([
        ("counts".to_owned(), "totals".to_owned()),
        ("by-value".to_owned(), "by-kind".to_owned()),
    ]);
    let migration = Migration::between(&old.describe(), &new.describe(), &renames, &[]).unwrap();
    assert_eq!(migration.copies.len(), 4, "{migration:?}");
    assert!(!migration.clocks.is_empty() && migration.again.is_none(), "{migration:?}");
    let options = Options { batch: 60, ..Options::default() };
    let (kills, _) = migrate_with_kills(&cluster, &migration, &new, &options).await;
    assert!(kills >= 3, "it was killed {kills} times only");
    for copied in migration.copies.iter().filter(|copied| !copied.repartition) {
        let (old, new) = (cluster.read(&copied.from).await, cluster.read(&copied.to).await);
        assert_eq!((sorted(old.clone()), old.len()), (sorted(new.clone()), new.len()), "each record once");
    }
    let again = migrate::plan(&cluster.client, &migration, &new.describe(), &options).await.unwrap();
    assert!(again.done, "what is done is not done again");

    let app = start(&cluster, new, state_dir.path()).await;
    order(&cluster, &topics.orders, begun, 900, 1_200).await;
    until(&cluster, &format!("{id}-counts"), 1_200).await;
    let fresh_dir = tempfile::tempdir().unwrap();
    let fresh = start(&cluster, second(&zero, &topics), fresh_dir.path()).await;
    until(&cluster, &format!("{zero}-counts"), 1_200).await;
    let windows = cluster_rows(&cluster, &format!("{zero}-windows"), &fresh).await;
    until(&cluster, &format!("{id}-windows"), windows).await;
    stop(&cluster, app, &id).await;
    stop(&cluster, fresh, &zero).await;
    same_as_from_zero(&cluster, (&id, &zero), &second(&id, &topics), &["counts", "windows"]).await;
    cluster.stop().await;
}

/// How many rows a topic has once all that was read is processed: it has not grown over several commits.
async fn cluster_rows(cluster: &Cluster, topic: &str, app: &StreamsApp) -> usize {
    let mut last = (usize::MAX, 0);
    eventually("nothing is under way", async || {
        let seen = (cluster.read(topic).await.len(), app.metrics().records_in);
        tokio::time::sleep(Duration::from_millis(400)).await;
        std::mem::replace(&mut last, seen) == seen
    })
    .await;
    last.0
}

/// The beginning of a row's window: behind the key, and before a number.
fn window(key: &Bytes) -> i64 {
    let at = key.len() - 12;
    i64::from_be_bytes(key[at..at + 8].try_into().unwrap())
}

/// Every store and every output of the one that was migrated, beside one that read all input with the new version.
async fn same_as_from_zero(cluster: &Cluster, (id, zero): (&str, &str), new: &Topology, outputs: &[&str]) {
    for changelog in changelogs(new, |_| true) {
        let other = changelog.replace(id, zero);
        let (mut migrated, mut built) = (state(cluster, &changelog).await, state(cluster, &other).await);
        // What has expired goes some with each commit, in each task by itself; the newest two windows are kept in any case.
        if changelog.contains("AGGREGATE") || changelog.ends_with("-orders-changelog") {
            let newest = built.keys().map(window).max().unwrap();
            let is_kept = |key: &Bytes| window(key) > newest - 2 * WINDOW.as_millis() as i64;
            migrated.retain(|key, _| is_kept(key));
            built.retain(|key, _| is_kept(key));
        }
        // A changelog may have windows that the store has forgotten: those of a run that was long ago.
        if changelog.contains("AGGREGATE") {
            let oldest = built.keys().map(window).min().unwrap();
            migrated.retain(|key, _| window(key) >= oldest);
        }
        assert_eq!(migrated, built, "{changelog} and {other}");
    }
    for output in outputs {
        let rows = async |id: &str| sorted(cluster.read(&format!("{id}-{output}")).await);
        assert_eq!(rows(id).await, rows(zero).await, "{output}");
    }
}

/// It may as long as the new one has not run; what was copied before is not its state any more then.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_version_that_came_back_is_migrated_with_what_it_has_done_since() {
    let cluster = Cluster::start().await;
    let (topics, id) = (Topics::new(&cluster).await, unique("back"));
    let state_dir = tempfile::tempdir().unwrap();
    let renames = Renames::new([
        ("counts".to_owned(), "totals".to_owned()),
        ("by-value".to_owned(), "by-kind".to_owned()),
    ]);
    let (old, new) = (first(&id, &topics).describe(), second(&id, &topics).describe());
    let migration = Migration::between(&old, &new, &renames, &[]).unwrap();
    let execute = async |replace: bool| {
        let options = Options { replace, ..Options::default() };
        let go = |_| ControlFlow::Continue(());
        migrate::execute(&cluster.client, &migration, &new, &options, go).await
    };
    let run = async |from: i64, to: i64| {
        order(&cluster, &topics.orders, now(), from, to).await;
        let app = start(&cluster, first(&id, &topics), state_dir.path()).await;
        until(&cluster, &format!("{id}-counts"), to as usize).await;
        stop(&cluster, app, &id).await;
    };
    run(0, 100).await;
    execute(false).await.unwrap();
    assert!(execute(false).await.unwrap().done, "what is done is not done again");
    run(100, 200).await;
    let refused = execute(false).await.unwrap_err();
    assert!(matches!(refused, MigrateError::Occupied { .. }), "{refused}");
    let copied = execute(true).await.unwrap();
    assert!(!copied.resumed && !copied.done, "{copied:?}");
    let kept = state(&cluster, &format!("{id}-counts-changelog")).await;
    assert_eq!(state(&cluster, &format!("{id}-totals-changelog")).await, kept);
    assert!(execute(false).await.unwrap().done);
    cluster.stop().await;
}

/// Orders by key, as one version or the other keeps them; bills are counted by both alike.
fn kept(id: &str, topics: &Topics, windowed: bool) -> Topology {
    let builder = StreamsBuilder::new(id);
    builder
        .stream(&topics.bills, Consumed::with(string(), string()))
        .group_by_key(Grouped::with(string(), string()))
        .count(Materialized::named("bills"))
        .to(&format!("{id}-bills"), Produced::with(string(), i64()));
    let orders = builder
        .stream(&topics.orders, Consumed::with(string(), string()))
        .group_by(|_, value| value.clone(), Grouped::with(string(), string()).named("by-value"));
    let to = format!("{id}-orders");
    match windowed {
        true => orders
            .windowed_by(TimeWindows::of(WINDOW).grace(Duration::from_secs(5)))
            .count(Materialized::named("orders"))
            .to(&to, Produced::with(time_windowed(string(), WINDOW), i64())),
        false => orders.count(Materialized::named("orders")).to(&to, Produced::with(string(), i64())),
    }
    builder.build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_rebuilt_equals_one_from_zero_and_its_neighbours_are_left_alone() {
    let cluster = Cluster::start().await;
    let (topics, begun) = (Topics::new(&cluster).await, now());
    let (id, zero) = (unique("rebuilt"), unique("zero"));
    let state_dir = tempfile::tempdir().unwrap();
    order(&cluster, &topics.orders, begun, 0, 500).await;
    order(&cluster, &topics.bills, begun, 0, 200).await;
    let app = start(&cluster, kept(&id, &topics, false), state_dir.path()).await;
    until(&cluster, &format!("{id}-orders"), 500).await;
    until(&cluster, &format!("{id}-bills"), 200).await;
    stop(&cluster, app, &id).await;

    let new = kept(&id, &topics, true);
    let migration =
        Migration::between(&kept(&id, &topics, false).describe(), &new.describe(), &Renames::default(), &[])
            .unwrap();
    let fates: BTreeMap<_, _> =
        migration.stores.iter().map(|step| (step.store.as_str(), &step.fate)).collect();
    assert_eq!(fates["bills"], &Fate::Kept);
    assert!(matches!(fates["orders"], Fate::Rebuilt { .. }), "{fates:?}");
    let execute = async |again: bool| {
        let (go, options) = (|_| ControlFlow::Continue(()), Options { again, ..Options::default() });
        migrate::execute(&cluster.client, &migration, &new.describe(), &options, go).await.unwrap()
    };
    let plan = execute(false).await;
    assert_eq!(plan.to_process(), 500);
    assert_eq!(plan.deleted, [format!("{id}-orders-changelog")]);
    assert!(execute(false).await.done);

    // The old version comes back, and leaves state of its own under the names of the new one.
    let app = start(&cluster, kept(&id, &topics, false), state_dir.path()).await;
    until(&cluster, &format!("{id}-orders"), 1_000).await;
    stop(&cluster, app, &id).await;
    assert!(execute(false).await.done, "nothing tells which version has run");
    let plan = execute(true).await;
    assert_eq!((plan.done, plan.to_process()), (false, 500));
    assert_eq!(plan.deleted, [format!("{id}-orders-changelog")]);
    assert!(execute(false).await.done);

    // As the command says.
    let state_dir = tempfile::tempdir().unwrap();
    let app = start(&cluster, new, state_dir.path()).await;
    order(&cluster, &topics.orders, begun, 500, 700).await;
    order(&cluster, &topics.bills, begun, 200, 300).await;
    let fresh_dir = tempfile::tempdir().unwrap();
    let fresh = start(&cluster, kept(&zero, &topics, true), fresh_dir.path()).await;
    until(&cluster, &format!("{zero}-bills"), 300).await;
    let rows = cluster_rows(&cluster, &format!("{zero}-orders"), &fresh).await;
    // Those of the version before are in the topic, too, of both of its runs.
    until(&cluster, &format!("{id}-orders"), 1_000 + rows).await;
    until(&cluster, &format!("{id}-bills"), 300).await;
    stop(&cluster, app, &id).await;
    stop(&cluster, fresh, &zero).await;
    same_as_from_zero(&cluster, (&id, &zero), &kept(&id, &topics, true), &["bills"]).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_lose_or_mix_state_is_refused_with_the_next_step() {
    let cluster = Cluster::start().await;
    let topics = Topics::new(&cluster).await;
    let id = unique("refused");
    let (old, new) = (first(&id, &topics), second(&id, &topics));
    let renames = Renames::new([
        ("counts".to_owned(), "totals".to_owned()),
        ("by-value".to_owned(), "by-kind".to_owned()),
    ]);
    let migration = Migration::between(&old.describe(), &new.describe(), &renames, &[]).unwrap();
    let execute = async |options: Options| {
        let go = |_| ControlFlow::Continue(());
        migrate::execute(&cluster.client, &migration, &new.describe(), &options, go).await
    };
    assert!(matches!(execute(Options::default()).await, Err(MigrateError::NeverRan { .. })));

    let state_dir = tempfile::tempdir().unwrap();
    order(&cluster, &topics.orders, now(), 0, 100).await;
    let app = start(&cluster, first(&id, &topics), state_dir.path()).await;
    until(&cluster, &format!("{id}-counts"), 100).await;
    let running = execute(Options::default()).await.unwrap_err();
    assert!(running.to_string().contains("stop every instance first"), "{running}");
    stop(&cluster, app, &id).await;

    // A repartition topic that nobody says is called otherwise now: left alone, but not with anything in it.
    let totals_only = Renames::new([("counts".to_owned(), "totals".to_owned())]);
    let leaving = Migration::between(&old.describe(), &new.describe(), &totals_only, &[]).unwrap();
    let left = format!("{id}-by-value-repartition");
    assert_eq!(leaving.left, [left.as_str()]);
    let look = async || migrate::plan(&cluster.client, &leaving, &new.describe(), &Options::default()).await;
    look().await.unwrap();
    cluster.produce(&left, &[("k", "under way", now())]).await;
    let refused = look().await.unwrap_err();
    assert!(matches!(refused, MigrateError::UnderWay { .. }), "{refused}");

    // As a start of the new version leaves it.
    let in_the_way = format!("{id}-totals-changelog");
    cluster.topic(&in_the_way, 2).await;
    cluster.produce(&in_the_way, &[("k", "not a count", 0)]).await;
    let occupied = execute(Options::default()).await.unwrap_err();
    assert!(occupied.to_string().contains("--replace"), "{occupied}");
    execute(Options { replace: true, ..Options::default() }).await.unwrap();
    let kept = state(&cluster, &format!("{id}-counts-changelog")).await;
    assert_eq!(state(&cluster, &in_the_way).await, kept);

    cluster.client.create_partitions(&topics.orders, 3).await.unwrap();
    // What is done is done; another migration looks again.
    let again =
        Migration::between(&new.describe(), &new.describe(), &Renames::default(), &["bills".to_owned()]);
    let more = migrate::plan(&cluster.client, &again.unwrap(), &new.describe(), &Options::default()).await;
    let refused = more.unwrap_err().to_string();
    assert!(refused.contains("3") && refused.contains("under another application id"), "{refused}");
    cluster.stop().await;
}
