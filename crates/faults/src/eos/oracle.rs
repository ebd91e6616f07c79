//! What must come out of a plan, computed from what is in the input topics: plainly, in one pass over everything, with
//! nothing of `headwater-streams` but the partition counts of internal topics.
//!
//! Time is as in decision 2: a record carries the stream time of the source partition it came from, and an operator's
//! watermark is the lowest of all that feed it.

use std::collections::{BTreeMap, BTreeSet};

use headwater_model::partition;

use super::events::{Event, Sum, row, window};
use super::plan::{Kind, Plan, Rekey, Shape, Step};
use super::{sessions, sliding};

/// A record of an input topic; without an event it is a tombstone.
#[derive(Debug, Clone)]
pub struct Input {
    pub key: String,
    pub event: Option<Event>,
    pub timestamp: i64,
}

/// Everything that was written: by stream (or table) and partition, in the order of offsets.
#[derive(Debug, Default)]
pub struct Inputs {
    pub streams: Vec<Vec<Vec<Input>>>,
    pub tables: Vec<Vec<Vec<Input>>>,
    pub globals: Vec<Vec<Vec<Input>>>,
}

/// What an end's topic must hold.
#[derive(Debug, PartialEq, Eq)]
pub enum Expected {
    /// These values per key, so often each, in any order.
    Records(BTreeMap<String, BTreeMap<String, usize>>),
    /// Per key so many updates, numbered from 1, and the last of them.
    Updates(BTreeMap<String, (i64, String)>),
    /// Per key the last value; and where it is known so many values that are no tombstones.
    Last { rows: BTreeMap<String, String>, updates: Option<BTreeMap<String, usize>> },
    /// Per key each event once, with one of the table's rows, in the order of those.
    Joined { events: BTreeMap<String, BTreeMap<String, usize>>, rows: BTreeMap<String, Vec<Option<String>>> },
    /// Per key each event once, with one of the rows that it may see (`-` for none).
    Seen {
        events: BTreeMap<String, BTreeMap<String, usize>>,
        rows: BTreeMap<(String, String), BTreeSet<String>>,
    },
}

/// Where a record entered: stream and partition.
type Lane = (usize, i32);

#[derive(Debug, Clone)]
struct Rec {
    key: String,
    event: Event,
    timestamp: i64,
    /// The highest timestamp of its lane up to it.
    stream_time: i64,
    lane: Lane,
    partition: i32,
}

#[derive(Debug, Clone)]
struct Stream {
    records: Vec<Rec>,
    /// The topics that feed the operator at this place: per partition the lowest time of all lanes, at the end.
    clocks: BTreeMap<String, BTreeMap<i32, i64>>,
    /// The streams whose partitions are its lanes.
    lanes: BTreeSet<usize>,
    rekeyed: bool,
}

impl Stream {
    fn with(&self, records: Vec<Rec>) -> Self {
        Self { records, ..self.clone() }
    }

    fn keyed(&self, key: impl Fn(&Rec) -> String) -> Self {
        let records = self.records.iter().map(|rec| Rec { key: key(rec), ..rec.clone() }).collect();
        Self { rekeyed: true, ..self.with(records) }
    }

    fn by_key(&self) -> BTreeMap<&str, Vec<&Rec>> {
        let mut by_key: BTreeMap<&str, Vec<&Rec>> = BTreeMap::new();
        self.records.iter().for_each(|rec| by_key.entry(&rec.key).or_default().push(rec));
        by_key
    }

    /// The watermark of a partition's operators once everything has passed.
    fn watermark(&self, partition: i32) -> i64 {
        self.clocks.values().filter_map(|times| times.get(&partition)).min().copied().unwrap_or(-1)
    }
}

pub struct Oracle<'a> {
    plan: &'a Plan,
    inputs: &'a Inputs,
    /// The partitions of internal topics.
    counts: &'a dyn Fn(&str) -> i32,
    streams: Vec<Stream>,
}

impl<'a> Oracle<'a> {
    pub fn new(plan: &'a Plan, inputs: &'a Inputs, counts: &'a dyn Fn(&str) -> i32) -> Self {
        let mut oracle = Self { plan, inputs, counts, streams: Vec::new() };
        for (index, step) in plan.steps.iter().enumerate() {
            let next = oracle.step(index, step);
            oracle.streams.push(next);
        }
        oracle
    }

    fn step(&self, index: usize, step: &Step) -> Stream {
        match *step {
            Step::Source { source } => self.source(source),
            Step::Filter { of, modulo } => self.kept(of, |rec| rec.event.passes(modulo)),
            Step::Branch { of, modulo, first } => self.kept(of, |rec| rec.event.passes(modulo) == first),
            Step::MapValues { of, add } => self.added(&self.streams[of], add),
            Step::SelectKey { of, rekey } => self.streams[of].keyed(|rec| rekey.key(rec.event.id)),
            Step::Map { of, rekey, add } => {
                self.added(&self.streams[of].keyed(|rec| rekey.key(rec.event.id)), add)
            }
            Step::FlatMap { of, rekey, copies } => self.copied(&self.streams[of], rekey, copies),
            Step::Merge { left, right } => merged(&self.streams[left], &self.streams[right]),
            Step::Repartition { of, .. } => self.repartitioned(&self.streams[of], &format!("step{index}")),
        }
    }

    fn source(&self, source: usize) -> Stream {
        let (mut records, mut clocks) = (Vec::new(), BTreeMap::new());
        for (partition, inputs) in (0..).zip(&self.inputs.streams[source]) {
            let mut stream_time = -1;
            for input in inputs {
                stream_time = input.timestamp.max(stream_time);
                let Some(event) = input.event else { continue };
                let (key, timestamp) = (input.key.clone(), input.timestamp);
                records.push(Rec {
                    key,
                    event,
                    timestamp,
                    stream_time,
                    lane: (source, partition),
                    partition,
                });
            }
            clocks.insert(partition, stream_time);
        }
        let clocks = BTreeMap::from([(self.plan.streams[source].topic.clone(), clocks)]);
        Stream { records, clocks, lanes: [source].into(), rekeyed: false }
    }

    fn kept(&self, of: usize, keep: impl Fn(&Rec) -> bool) -> Stream {
        let stream = &self.streams[of];
        stream.with(stream.records.iter().filter(|rec| keep(rec)).cloned().collect())
    }

    fn added(&self, stream: &Stream, add: i64) -> Stream {
        let records = stream.records.iter().map(|rec| Rec { event: rec.event.add(add), ..rec.clone() });
        stream.with(records.collect())
    }

    fn copied(&self, stream: &Stream, rekey: Rekey, copies: i64) -> Stream {
        let copy = |rec: &Rec, copy: i64| Rec {
            key: rekey.copy(rec.event, copy),
            event: rec.event.add(copy),
            ..rec.clone()
        };
        let records = stream.records.iter().flat_map(|rec| (0..copies).map(move |number| copy(rec, number)));
        Stream { rekeyed: true, ..stream.with(records.collect()) }
    }

    /// Through the internal topic that `name` leads to, if that is needed.
    fn by_key(&self, stream: &Stream, name: &str) -> Stream {
        if stream.rekeyed { self.repartitioned(stream, name) } else { stream.clone() }
    }

    fn repartitioned(&self, stream: &Stream, name: &str) -> Stream {
        let topic = self.plan.repartition(name);
        let count = (self.counts)(&topic);
        let place =
            |rec: &Rec| Rec { partition: partition::for_key(rec.key.as_bytes(), count), ..rec.clone() };
        let records: Vec<Rec> = stream.records.iter().map(place).collect();
        let lanes = || {
            let sources = stream.lanes.iter();
            sources.flat_map(|&source| (0..self.plan.streams[source].partitions).map(move |p| (source, p)))
        };
        let lowest = |partition: i32| {
            let mut times: BTreeMap<Lane, i64> = lanes().map(|lane| (lane, -1)).collect();
            for rec in records.iter().filter(|rec| rec.partition == partition) {
                let time = times.entry(rec.lane).or_insert(-1);
                *time = rec.stream_time.max(*time);
            }
            times.into_values().min().unwrap_or(-1)
        };
        let clocks = (0..count).map(|partition| (partition, lowest(partition))).collect();
        Stream { clocks: [(topic, clocks)].into(), records, rekeyed: false, lanes: stream.lanes.clone() }
    }

    /// What the topic of one end must hold.
    pub fn expected(&self, end: usize) -> Expected {
        let wanted = &self.plan.ends[end];
        let name = format!("end{end}");
        let rekeyed = |stream: &Stream| match wanted.rekey {
            Some(rekey) => stream.keyed(|rec| rekey.key(rec.event.id)),
            None => stream.clone(),
        };
        let stream = rekeyed(&self.streams[wanted.of]);
        let grouped = || self.by_key(&stream, &name);
        match wanted.shape {
            Shape::Copy => records(stream.records.iter().map(|rec| (rec.key.clone(), rec.event.text()))),
            Shape::Count => updates(&stream, |sum| sum.count.to_string()),
            Shape::Aggregate => updates(&stream, Sum::text),
            Shape::Reduce => reduced(&stream),
            Shape::Windowed { size, advance, grace, suppressed } => {
                windowed(&grouped(), (size, advance, grace), suppressed)
            }
            Shape::Closing { size, advance, grace } => windowed(&grouped(), (size, advance, grace), true),
            Shape::Sessions { gap } => sessions::expected(times(&stream), gap),
            Shape::Sliding { difference } => sliding::expected(times(&stream), difference),
            Shape::Cogroup { other } => {
                let other = self.added(&rekeyed(&self.streams[other]), 1);
                updates(&merged(&stream, &other), Sum::text)
            }
            Shape::Process => updates(&stream, Sum::text),
            Shape::Deduplicate => {
                let ids: BTreeSet<(String, u64)> =
                    stream.records.iter().map(|rec| (rec.key.clone(), rec.event.id)).collect();
                records(ids.into_iter().map(|(key, id)| (key, id.to_string())))
            }
            Shape::StreamTable { table } => Expected::Joined {
                events: counted(stream.records.iter().map(|rec| (rec.key.clone(), rec.event.text()))),
                rows: self.versions(table),
            },
            Shape::Global { refers } => self.global(&stream, refers),
            Shape::Versions { table, grace, .. } => self.as_of(&self.by_key(&stream, &name), table, grace),
            Shape::TableTable { table, kind } => {
                let counts =
                    counts(&stream).into_iter().map(|(key, count)| (key, count.to_string())).collect();
                joined(&counts, &self.rows(table), kind)
            }
            Shape::Tables { table, other, kind } => joined(&self.rows(table), &self.rows(other), kind),
            Shape::Filtered { table, modulo, .. } => {
                let mut rows = self.rows(table);
                rows.retain(|_, text| Event::parse(text).passes(modulo));
                Expected::Last { rows, updates: None }
            }
            Shape::Foreign { table, other, refers, kind } => {
                foreign(&self.rows(table), &self.rows(other), refers, kind)
            }
            Shape::Regroup { table, groups } => self.regrouped(table, groups),
            Shape::StreamStream { other, before, after, grace, kind } => {
                let left_side = self.by_key(&stream, &format!("{name}-left"));
                let right_side = self.by_key(&rekeyed(&self.streams[other]), &format!("{name}-right"));
                pairs(&left_side, &right_side, (before, after, grace), kind)
            }
        }
    }

    /// Each event with any row that the one it refers to ever was: instances read a global table by themselves, and an event may
    /// come to one that is behind another.
    fn global(&self, stream: &Stream, refers: Rekey) -> Expected {
        let mut versions: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for input in self.inputs.globals.iter().flatten().flatten() {
            versions.entry(&input.key).or_default().extend(input.event.map(Event::text));
        }
        let may_see = |rec: &Rec| {
            let row = refers.row(rec.event);
            row.and_then(|row| versions.get(&*row).cloned()).unwrap_or_default()
        };
        seen(stream.records.iter(), may_see)
    }

    /// Each event with a row of its key that is not later than itself. With a grace it is there once the time has passed, or if it came
    /// later than that.
    fn as_of(&self, stream: &Stream, table: usize, grace: Option<i64>) -> Expected {
        let inputs: Vec<&Input> = self.inputs.tables[table].iter().flatten().collect();
        let may_see = |rec: &Rec| {
            let earlier = inputs.iter().filter(|row| row.key == rec.key && row.timestamp <= rec.timestamp);
            earlier.filter_map(|row| row.event).map(Event::text).collect::<BTreeSet<String>>()
        };
        let has_gone = |rec: &&Rec| {
            grace.is_none_or(|grace| {
                let due = rec.timestamp + grace;
                due < rec.stream_time || due <= stream.watermark(rec.partition)
            })
        };
        seen(stream.records.iter().filter(has_gone), may_see)
    }

    /// All rows that a key of a table ever had, none among them, in their order.
    fn versions(&self, table: usize) -> BTreeMap<String, Vec<Option<String>>> {
        let mut versions: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
        for input in self.inputs.tables[table].iter().flatten() {
            let rows = versions.entry(input.key.clone()).or_insert_with(|| vec![None]);
            rows.push(input.event.map(Event::text));
        }
        versions
    }

    fn rows(&self, table: usize) -> BTreeMap<String, String> {
        let last = |(key, rows): (String, Vec<Option<String>>)| Some((key, rows.last()?.clone()?));
        self.versions(table).into_iter().filter_map(last).collect()
    }

    fn regrouped(&self, table: usize, groups: u64) -> Expected {
        let group = |event: Event| format!("g{}", event.id % groups);
        let all = self.inputs.tables[table].iter().flatten().filter_map(|input| input.event);
        let mut sums: BTreeMap<String, Sum> = all.map(|event| (group(event), Sum::default())).collect();
        for text in self.rows(table).values() {
            let event = Event::parse(text);
            let sum = sums.entry(group(event)).or_default();
            *sum = sum.plus(event);
        }
        let rows = sums.into_iter().map(|(group, sum)| (group, sum.text())).collect();
        Expected::Last { rows, updates: None }
    }
}

fn merged(left: &Stream, right: &Stream) -> Stream {
    let mut both = left.clone();
    both.records.extend(right.records.iter().cloned());
    both.clocks.extend(right.clocks.clone());
    both.lanes.extend(&right.lanes);
    both.rekeyed |= right.rekeyed;
    both
}

fn times(stream: &Stream) -> impl Iterator<Item = (&str, i64)> {
    stream.records.iter().map(|rec| (&*rec.key, rec.timestamp))
}

/// Events with the rows that each may see, or with none.
fn seen<'a>(
    records: impl Iterator<Item = &'a Rec> + Clone,
    may_see: impl Fn(&Rec) -> BTreeSet<String>,
) -> Expected {
    let mut rows = BTreeMap::new();
    for rec in records.clone() {
        let mut seen = may_see(rec);
        seen.insert("-".to_owned());
        rows.insert((rec.key.clone(), rec.event.text()), seen);
    }
    Expected::Seen { events: counted(records.map(|rec| (rec.key.clone(), rec.event.text()))), rows }
}

fn counted(records: impl Iterator<Item = (String, String)>) -> BTreeMap<String, BTreeMap<String, usize>> {
    let mut counts: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for (key, value) in records {
        *counts.entry(key).or_default().entry(value).or_default() += 1;
    }
    counts
}

fn records(records: impl Iterator<Item = (String, String)>) -> Expected {
    Expected::Records(counted(records))
}

fn sums(stream: &Stream) -> BTreeMap<String, Sum> {
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    for rec in &stream.records {
        let sum = sums.entry(rec.key.clone()).or_default();
        *sum = sum.plus(rec.event);
    }
    sums
}

fn counts(stream: &Stream) -> BTreeMap<String, i64> {
    sums(stream).into_iter().map(|(key, sum)| (key, sum.count)).collect()
}

fn updates(stream: &Stream, text: impl Fn(Sum) -> String) -> Expected {
    let of = |(key, sum): (String, Sum)| (key, (sum.count, text(sum)));
    Expected::Updates(sums(stream).into_iter().map(of).collect())
}

fn reduced(stream: &Stream) -> Expected {
    let last = |(key, sum): &(String, Sum)| (key.clone(), Event { id: sum.ids, n: sum.sum }.text());
    let sums: Vec<(String, Sum)> = sums(stream).into_iter().collect();
    let updates = sums.iter().map(|(key, sum)| (key.clone(), sum.count.unsigned_abs() as usize)).collect();
    Expected::Last { rows: sums.iter().map(last).collect(), updates: Some(updates) }
}

/// A record counts in each of its windows that is open by the time it carries.
fn windowed(stream: &Stream, (size, advance, grace): (i64, i64, i64), suppressed: bool) -> Expected {
    let mut counts: BTreeMap<String, (i64, i32, i64)> = BTreeMap::new();
    for rec in &stream.records {
        let last = rec.timestamp.div_euclid(advance) * advance;
        let starts = (0..).map(|back| last - back * advance).take_while(|start| start + size > rec.timestamp);
        for start in starts.filter(|start| *start >= 0 && start + size > rec.stream_time - grace) {
            let entry = counts.entry(window(&rec.key, start)).or_insert((0, rec.partition, start + size));
            entry.0 += 1;
        }
    }
    if suppressed {
        let closed = |(_, (_, partition, end)): &(String, (i64, i32, i64))| {
            *end <= stream.watermark(*partition) - grace
        };
        return records(counts.into_iter().filter(closed).map(|(at, (count, ..))| (at, count.to_string())));
    }
    Expected::Updates(counts.into_iter().map(|(at, (count, ..))| (at, (count, count.to_string()))).collect())
}

fn joined(left: &BTreeMap<String, String>, right: &BTreeMap<String, String>, kind: Kind) -> Expected {
    let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let there = |key: &String| match kind {
        Kind::Inner => left.contains_key(key) && right.contains_key(key),
        Kind::Left => left.contains_key(key),
        Kind::Outer => true,
    };
    let value = |key: &String| row(left.get(key).map(String::as_str), right.get(key).map(String::as_str));
    let rows = keys.into_iter().filter(|key| there(key)).map(|key| (key.clone(), value(key))).collect();
    Expected::Last { rows, updates: None }
}

/// Rows with those that they refer to.
fn foreign(
    left: &BTreeMap<String, String>,
    right: &BTreeMap<String, String>,
    refers: Rekey,
    kind: Kind,
) -> Expected {
    let joined = |(key, text): (&String, &String)| {
        let other = refers.row(Event::parse(text)).and_then(|other| right.get(&other));
        let there = other.is_some() || kind != Kind::Inner;
        there.then(|| (key.clone(), row(Some(text), other.map(String::as_str))))
    };
    Expected::Last { rows: left.iter().filter_map(joined).collect(), updates: None }
}

/// Two records meet if they are near enough and each came before the other's window had closed.
fn pairs(left: &Stream, right: &Stream, (before, after, grace): (i64, i64, i64), kind: Kind) -> Expected {
    let late = |rec: &Rec| rec.timestamp < rec.stream_time - before - after - grace;
    let meet = |one: &Rec, other: &Rec| {
        let near = (one.timestamp - before..=one.timestamp + after).contains(&other.timestamp);
        let in_time = other.stream_time <= one.timestamp + after + grace
            && one.stream_time <= other.timestamp + before + grace;
        near && in_time && !late(one) && !late(other)
    };
    let watermark = |rec: &Rec| left.watermark(rec.partition).min(right.watermark(rec.partition));
    let alone = |rec: &Rec, reach: i64| late(rec) || rec.timestamp + reach + grace < watermark(rec);
    let (by_left, by_right) = (left.by_key(), right.by_key());
    let mut found = Vec::new();
    for rec in &left.records {
        let text = rec.event.text();
        let others = by_right.get(&*rec.key).into_iter().flatten().copied();
        let partners: Vec<&Rec> = others.filter(|&other| meet(rec, other)).collect();
        if kind != Kind::Inner && partners.is_empty() && alone(rec, after) {
            found.push((rec.key.clone(), row(Some(&text), None)));
        }
        let pair = |other: &&Rec| (rec.key.clone(), row(Some(&text), Some(&other.event.text())));
        found.extend(partners.iter().map(pair));
    }
    for rec in right.records.iter().filter(|_| kind == Kind::Outer) {
        let mut others = by_left.get(&*rec.key).into_iter().flatten().copied();
        if !others.any(|other| meet(other, rec)) && alone(rec, before) {
            found.push((rec.key.clone(), row(None, Some(&rec.event.text()))));
        }
    }
    records(found.into_iter())
}
