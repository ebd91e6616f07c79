//! The real topology of a plan.

use std::time::Duration;

use anyhow::Result;
use headwater::streams::serdes::{i64, nullable, string};
use headwater::streams::{
    Consumed, Deduplicated, GlobalKTable, Grouped, JoinWindows, Joined, KGroupedStream, KStream, KTable,
    Materialized, Predicate, Processor, ProcessorContext, ProcessorError, Produced, Repartitioned,
    SessionWindows, SlidingWindows, StateStore, StreamJoined, StreamsBuilder, TableJoined, TimeWindows,
    Topology, Windowed,
};

use super::events::{Event, Sum, row, session, window};
use super::plan::{End, Kind, Plan, Rekey, Shape, Step};

type Events = KStream<String, String>;
type Rows = KTable<String, String>;
type Globals = GlobalKTable<String, String>;

/// How long sessions, sliding windows and what leaves duplicates out take records out of order: none is late, since what those
/// would do depends on the lanes.
const LONG: Duration = Duration::from_secs(3600);

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
    let globals: Vec<Globals> = (plan.globals.iter().enumerate())
        .map(|(index, global)| {
            builder.global_table(&global.topic, read(), Materialized::named(format!("globals{index}")))
        })
        .collect();
    let parts = Parts { builder, streams, tables, globals };
    for (index, end) in plan.ends.iter().enumerate() {
        parts.finish(plan, index, end);
    }
    Ok(parts.builder.build()?)
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
        Step::FlatMap { of, rekey, copies } => streams[of].flat_map(move |_, value| {
            let event = Event::parse(&value);
            (0..copies).map(move |copy| (rekey.copy(event, copy), event.add(copy).text()))
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

/// What the ends are made of.
struct Parts {
    builder: StreamsBuilder,
    streams: Vec<Events>,
    tables: Vec<Rows>,
    globals: Vec<Globals>,
}

/// How texts are written.
fn texts() -> Produced<String, String> {
    Produced::with(string(), string())
}

fn write_counts(counts: &KTable<Windowed<String>, i64>, topic: &str) {
    write_windows(counts, topic, |at| window(&at.key, at.start), |count| count.to_string());
}

fn with_row(value: String, found: Option<&String>) -> String {
    row(Some(&value), found.map(String::as_str))
}

impl Parts {
    fn finish(&self, plan: &Plan, index: usize, end: &End) {
        let topic = plan.output(index);
        let stream = rekeyed(&self.streams[end.of], end);
        let name = format!("end{index}");
        let store = format!("{name}-store");
        let grouped = || stream.group_by_key(Grouped::with(string(), string()).named(&name));
        match end.shape {
            Shape::Copy => stream.to(&topic, texts()),
            Shape::Count | Shape::Reduce | Shape::Aggregate => {
                write(&fold(&grouped(), &end.shape, &store), &topic)
            }
            Shape::Windowed { size, advance, grace, suppressed } => {
                let windows = TimeWindows::of(ms(size)).advance(ms(advance)).grace(ms(grace));
                let mut counts = grouped().windowed_by(windows).count(Materialized::named(&store));
                if suppressed {
                    counts = counts.suppress_until_window_closes(Some(&format!("{name}-final")));
                }
                write_counts(&counts, &topic);
            }
            Shape::Closing { size, advance, grace } => {
                let windows = TimeWindows::of(ms(size)).advance(ms(advance)).grace(ms(grace));
                let windowed = grouped().windowed_by(windows).emit_on_close();
                write_counts(&windowed.count(Materialized::named(&store)), &topic);
            }
            Shape::Sliding { difference } => {
                let windows = SlidingWindows::of_time_difference_and_grace(ms(difference), LONG);
                let windowed = grouped().windowed_by_sliding(windows);
                write_counts(&windowed.count(Materialized::named(&store)), &topic);
            }
            Shape::Sessions { gap } => {
                let windows = SessionWindows::with_gap(ms(gap)).grace(LONG);
                let counts = grouped().windowed_by_session(windows).count(Materialized::named(&store));
                write_windows(
                    &counts,
                    &topic,
                    |at| session(&at.key, at.start, at.end),
                    |count| count.to_string(),
                );
            }
            Shape::Cogroup { other } => {
                let other = rekeyed(&self.streams[other], end);
                write(&cogrouped(&stream, &other, &name, &store), &topic);
            }
            Shape::Deduplicate => {
                let id = |_: &String, value: &String| i64::try_from(Event::parse(value).id).ok();
                let options = Deduplicated::with(string(), string()).named(&name);
                let once = stream.deduplicate_by_id(id, i64(), LONG, options);
                once.map_values(|value| Event::parse(&value).id.to_string()).to(&topic, texts());
            }
            Shape::Process => {
                let sums = self.builder.add_store(Materialized::with(&store, string(), string()));
                let through = stream.repartition(Repartitioned::with(string(), string()).named(&name));
                through.process(move || Adding { sums: sums.clone() }, &[&store]).to(&topic, texts());
            }
            Shape::StreamTable { table } => {
                let joined = Joined::with(string(), string()).named(&name);
                stream.left_join(&self.tables[table], with_row, joined).to(&topic, texts());
            }
            Shape::Global { refers } => {
                let select = move |_: &String, value: &String| refers.row(Event::parse(value));
                stream.left_join_global(&self.globals[0], select, with_row).to(&topic, texts());
            }
            Shape::Versions { table, history, grace } => {
                let kept = Materialized::with(&store, string(), string()).versioned(ms(history));
                let rows = self.tables[table].materialized(kept);
                let joined = Joined::with(string(), string()).named(&name);
                let joined = match grace {
                    Some(grace) => joined.grace(ms(grace)),
                    None => joined,
                };
                stream.left_join(&rows, with_row, joined).to(&topic, texts());
            }
            Shape::TableTable { table, kind } => {
                let counts =
                    grouped().count(Materialized::named(&store)).map_values(|count| count.to_string());
                write(&join_tables(&counts, &self.tables[table], kind), &topic);
            }
            Shape::Tables { table, other, kind } => {
                write(&join_tables(&self.tables[table], &self.tables[other], kind), &topic)
            }
            Shape::Filtered { table, modulo, kept } => {
                let rows = self.tables[table].filter(move |_, value| Event::parse(value).passes(modulo));
                let options = || Materialized::with(&store, string(), string());
                write(&if kept { rows.materialized(options()) } else { rows }, &topic);
            }
            Shape::Foreign { table, other, refers, kind } => {
                write(&join_foreign(&self.tables[table], &self.tables[other], refers, kind, &name), &topic)
            }
            Shape::Regroup { table, groups } => {
                write(&regroup(&self.tables[table], groups, &name, &store), &topic)
            }
            Shape::StreamStream { other, before, after, grace, kind } => {
                let other = rekeyed(&self.streams[other], end);
                let windows =
                    JoinWindows::of(Duration::ZERO).before(ms(before)).after(ms(after)).grace(ms(grace));
                join_streams(&stream, &other, windows, kind, &name).to(&topic, texts());
            }
        }
    }
}

/// Adds each event to the sum that its key had.
struct Adding {
    sums: StateStore<String, String>,
}

impl Processor<String, String, String, String> for Adding {
    fn process(
        &mut self,
        key: String,
        value: String,
        cx: &mut ProcessorContext<'_, '_, String, String>,
    ) -> Result<(), ProcessorError> {
        let before = cx.get(&self.sums, &key)?.map_or_else(Sum::default, |sum| Sum::parse(&sum));
        let sum = before.plus(Event::parse(&value)).text();
        cx.put(&self.sums, &key, sum.clone())?;
        Ok(cx.forward(key, sum)?)
    }
}

/// The events of the other stream count one more each.
fn cogrouped(stream: &Events, other: &Events, name: &str, store: &str) -> Rows {
    let group = |stream: &Events, side: &str| {
        stream.group_by_key(Grouped::with(string(), string()).named(format!("{name}-{side}")))
    };
    let (left, right) = (group(stream, "left"), group(other, "right"));
    left.cogroup(|_, value: String, sum: String| Sum::parse(&sum).plus(Event::parse(&value)).text())
        .cogroup(&right, |_, value: String, sum: String| {
            Sum::parse(&sum).plus(Event::parse(&value).add(1)).text()
        })
        .aggregate(|| Sum::default().text(), Materialized::with(store, string(), string()))
}

fn join_streams(left: &Events, right: &Events, windows: JoinWindows, kind: Kind, name: &str) -> Events {
    let joined = StreamJoined::with(string(), string(), string()).named(name);
    match kind {
        Kind::Inner => {
            let pair = |left: &String, right: &String| row(Some(left), Some(right));
            left.join_stream(right, pair, windows, joined)
        }
        Kind::Left => {
            let pair = |left: &String, right: Option<&String>| row(Some(left), right.map(String::as_str));
            left.left_join_stream(right, pair, windows, joined)
        }
        Kind::Outer => {
            let pair = |left: Option<&String>, right: Option<&String>| {
                row(left.map(String::as_str), right.map(String::as_str))
            };
            left.outer_join_stream(right, pair, windows, joined)
        }
    }
}

fn join_foreign(left: &Rows, right: &Rows, refers: Rekey, kind: Kind, name: &str) -> Rows {
    let select = move |_: &String, value: &String| refers.row(Event::parse(value));
    let options = TableJoined::new().named(name);
    match kind {
        Kind::Inner => left.join_foreign(right, select, |left, right| row(Some(left), Some(right)), options),
        Kind::Left | Kind::Outer => {
            let pair = |left: &String, right: Option<&String>| row(Some(left), right.map(String::as_str));
            left.left_join_foreign(right, select, pair, options)
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
