//! The real topology of a plan.

use std::time::Duration;

use anyhow::Result;
use headwater::streams::serdes::{i64, nullable, string};
use headwater::streams::{
    Consumed, Grouped, JoinWindows, Joined, KGroupedStream, KStream, KTable, Materialized, Predicate,
    Produced, Repartitioned, SessionWindows, StreamJoined, StreamsBuilder, TimeWindows, Topology, Windowed,
};

use super::events::{Event, Sum, row, session, window};
use super::plan::{End, Kind, Plan, Shape, Step};

type Events = KStream<String, String>;
type Rows = KTable<String, String>;

/// How long sessions wait for records out of order: none is late, since which are would depend on the lanes.
pub const SESSION_GRACE_MS: u64 = 3_600_000;

fn ms(time: i64) -> Duration {
    Duration::from_millis(time.unsigned_abs())
}

pub fn build(plan: &Plan) -> Result<Topology> {
    let builder = StreamsBuilder::new(&plan.application);
    let read = || Consumed::with(string(), string());
    let tables: Vec<Rows> = (plan.tables.iter().enumerate())
        .map(|(index, table)| {
            builder.table(&table.topic, read(), Materialized::named(format!("rows{index}")))
        })
        .collect();
    let mut streams: Vec<Events> = Vec::new();
    for (index, step) in plan.steps.iter().enumerate() {
        let next = match step {
            Step::Source { source } => builder.stream(&plan.streams[*source].topic, read()),
            step => derived(step, index, &streams),
        };
        streams.push(next);
    }
    for (index, end) in plan.ends.iter().enumerate() {
        finish(plan, index, end, &streams, &tables);
    }
    Ok(builder.build()?)
}

fn derived(step: &Step, index: usize, streams: &[Events]) -> Events {
    match *step {
        Step::Source { source } => streams[source].clone(),
        Step::Filter { of, modulo } => streams[of].filter(move |_, value| Event::parse(value).passes(modulo)),
        Step::MapValues { of, add } => {
            streams[of].map_values(move |value| Event::parse(&value).add(add).text())
        }
        Step::SelectKey { of, rekey } => {
            streams[of].select_key(move |_, value| rekey.key(Event::parse(value).id))
        }
        Step::Map { of, rekey, add } => streams[of].map(move |_, value| {
            let event = Event::parse(&value);
            (rekey.key(event.id), event.add(add).text())
        }),
        Step::Branch { of, modulo, first } => {
            let predicate: Predicate<String, String> =
                Box::new(move |_, value| Event::parse(value).passes(modulo));
            streams[of].split(vec![predicate]).swap_remove(usize::from(!first))
        }
        Step::Merge { left, right } => streams[left].merge(&streams[right]),
        Step::Repartition { of, partitions } => {
            let through = Repartitioned::with(string(), string()).named(format!("step{index}"));
            streams[of].repartition(through.partitions(partitions))
        }
    }
}

fn rekeyed(stream: &Events, end: &End) -> Events {
    match end.rekey {
        Some(rekey) => stream.select_key(move |_, value| rekey.key(Event::parse(value).id)),
        None => stream.clone(),
    }
}

/// Writes a table of texts; a row that is deleted is a tombstone.
fn write(table: &Rows, topic: &str) {
    table.to(topic, Produced::with(string(), string()));
}

fn write_windows<V: Clone + Send + Sync + 'static>(
    table: &KTable<Windowed<String>, V>,
    topic: &str,
    name: impl Fn(&Windowed<String>) -> String + Send + Sync + 'static,
    text: impl Fn(V) -> String + Send + Sync + 'static,
) {
    let texts = table.to_stream().map(move |window, value| (name(&window), value.map(&text)));
    texts.to(topic, Produced::with(string(), nullable(string())));
}

fn finish(plan: &Plan, index: usize, end: &End, streams: &[Events], tables: &[Rows]) {
    let topic = plan.output(index);
    let stream = rekeyed(&streams[end.of], end);
    let name = format!("end{index}");
    let store = format!("{name}-store");
    let grouped = || stream.group_by_key(Grouped::with(string(), string()).named(&name));
    match end.shape {
        Shape::Copy => stream.to(&topic, Produced::with(string(), string())),
        Shape::Count | Shape::Reduce | Shape::Aggregate => {
            write(&fold(&grouped(), &end.shape, &store), &topic)
        }
        Shape::Windowed { size, advance, grace, suppressed } => {
            let windows = TimeWindows::of(ms(size)).advance(ms(advance)).grace(ms(grace));
            let mut counts = grouped().windowed_by(windows).count(Materialized::named(&store));
            if suppressed {
                counts = counts.suppress_until_window_closes(Some(&format!("{name}-final")));
            }
            write_windows(&counts, &topic, |at| window(&at.key, at.start), |count| count.to_string());
        }
        Shape::Sessions { gap } => {
            let windows = SessionWindows::with_gap(ms(gap)).grace(Duration::from_millis(SESSION_GRACE_MS));
            let counts = grouped().windowed_by_session(windows).count(Materialized::named(&store));
            write_windows(
                &counts,
                &topic,
                |at| session(&at.key, at.start, at.end),
                |count| count.to_string(),
            );
        }
        Shape::StreamTable { table } => {
            let joined = Joined::with(string(), string()).named(&name);
            let join = |value: String, found: Option<&String>| row(Some(&value), found.map(String::as_str));
            stream.left_join(&tables[table], join, joined).to(&topic, Produced::with(string(), string()));
        }
        Shape::TableTable { table, kind } => {
            let counts = grouped().count(Materialized::named(&store)).map_values(|count| count.to_string());
            write(&join_tables(&counts, &tables[table], kind), &topic);
        }
        Shape::Tables { table, other, kind } => {
            write(&join_tables(&tables[table], &tables[other], kind), &topic)
        }
        Shape::Regroup { table, groups } => write(&regroup(&tables[table], groups, &name, &store), &topic),
        Shape::StreamStream { other, before, after, grace, left } => {
            let other = rekeyed(&streams[other], end);
            let windows =
                JoinWindows::of(Duration::ZERO).before(ms(before)).after(ms(after)).grace(ms(grace));
            let joined = StreamJoined::with(string(), string(), string()).named(&name);
            let pairs = if left {
                let pair = |left: &String, right: Option<&String>| row(Some(left), right.map(String::as_str));
                stream.left_join_stream(&other, pair, windows, joined)
            } else {
                let pair = |left: &String, right: &String| row(Some(left), Some(right));
                stream.join_stream(&other, pair, windows, joined)
            };
            pairs.to(&topic, Produced::with(string(), string()));
        }
    }
}

fn fold(grouped: &KGroupedStream<String, String>, shape: &Shape, store: &str) -> Rows {
    match shape {
        Shape::Reduce => grouped.reduce(
            |one, other| Event::parse(&one).reduce(Event::parse(&other)).text(),
            Materialized::with(store, string(), string()),
        ),
        Shape::Aggregate => grouped.aggregate(
            || Sum::default().text(),
            |_, value, sum| Sum::parse(&sum).plus(Event::parse(&value)).text(),
            Materialized::with(store, string(), string()),
        ),
        _ => grouped.count(Materialized::with(store, string(), i64())).map_values(|count| count.to_string()),
    }
}

fn join_tables(left: &Rows, right: &Rows, kind: Kind) -> Rows {
    match kind {
        Kind::Inner => left.join(right, |left, right| row(Some(left), Some(right))),
        Kind::Left => left.left_join(right, |left, right| row(Some(left), right.map(String::as_str))),
        Kind::Outer => {
            left.outer_join(right, |left, right| row(left.map(String::as_str), right.map(String::as_str)))
        }
    }
}

/// Rows grouped by their number's rest.
fn regroup(rows: &Rows, groups: u64, name: &str, store: &str) -> Rows {
    let by =
        move |_: &String, value: &String| (format!("g{}", Event::parse(value).id % groups), value.clone());
    rows.group_by(by, Grouped::with(string(), string()).named(name)).aggregate(
        || Sum::default().text(),
        |_, value, sum| Sum::parse(&sum).plus(Event::parse(&value)).text(),
        |_, value, sum| Sum::parse(&sum).minus(Event::parse(&value)).text(),
        Materialized::with(store, string(), string()),
    )
}
