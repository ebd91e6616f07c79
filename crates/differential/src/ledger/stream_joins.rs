//! What a join of two streams does with records that come late, and with what waits for a partner.
//!
//! Both sides are held against a plain model of the join that has a rule of either side at each point where they part. A
//! case is explained if Kafka Streams wrote what the model does with its rules, and ours what it does with ours: to the
//! last record, so nothing else can hide here.

use std::collections::BTreeMap;

use super::{Entry, Sides};
use crate::case::{Event, Kind, Program, Row, Step};
use crate::functions;

/// Both streams in one topic.
pub const OUT_OF_ORDER: Entry =
    Entry { name: "stream-join-out-of-order", applies: |program| lanes(program) == Some(1), even };

/// Each in its own, with its own stream time.
pub const TWO_LANES: Entry =
    Entry { name: "stream-time-travels", applies: |program| lanes(program) == Some(2), even };

/// Of how many topics a join of streams is.
fn lanes(program: &Program) -> Option<usize> {
    let streams = program.steps.iter().filter(|step| matches!(step, Step::Stream { .. })).count();
    program.has(|step| matches!(step, Step::JoinStreams { .. })).then_some(streams)
}

fn even(sides: &mut Sides<'_>) {
    let (Some(join), Some(inputs)) = (Join::of(sides.program), inputs(sides.program)) else { return };
    if sides.theirs == Model::run(join, true, &inputs) && sides.ours == Model::run(join, false, &inputs) {
        sides.theirs = sides.ours.clone();
    }
}

#[derive(Clone, Copy)]
struct Join {
    kind: Kind,
    before: i64,
    after: i64,
    grace: i64,
}

impl Join {
    fn of(program: &Program) -> Option<Self> {
        program.steps.iter().find_map(|step| match *step {
            Step::JoinStreams { kind, before, after, grace, .. } => {
                Some(Self { kind, before: before as i64, after: after as i64, grace: grace as i64 })
            }
            _ => None,
        })
    }

    /// How much earlier and later than a record of this side its partners may be.
    fn reach(self, left: bool) -> (i64, i64) {
        if left { (self.before, self.after) } else { (self.after, self.before) }
    }

    /// The last stream time at which a record of this side is joined.
    fn closes(self, left: bool, at: i64) -> i64 {
        at + self.reach(left).1 + self.grace
    }

    fn retention(self) -> i64 {
        self.before + self.after + self.grace
    }

    /// Whether unmatched records of this side are results.
    fn outer(self, left: bool) -> bool {
        match self.kind {
            Kind::Inner => false,
            Kind::Left => left,
            Kind::Outer => true,
        }
    }
}

#[derive(Clone)]
struct Input {
    event: usize,
    left: bool,
    /// Of a topic of its side's.
    apart: bool,
    key: String,
    /// Nothing for null, which joins with nothing.
    text: String,
    at: i64,
    headers: String,
}

/// The records of both streams, by their topics or by the marks of the one topic that they share.
fn inputs(program: &Program) -> Option<Vec<Input>> {
    let apart = lanes(program) == Some(2);
    let input = |(event, happens): (usize, &Event)| match happens {
        Event::Clock { .. } => None,
        Event::Record { topic, key, value, at, header } => {
            let (key, value) = (key.clone(), value.as_deref().unwrap_or_default());
            let by_topic = (if *topic == "a" { "l" } else { "r" }, value);
            let (mark, text) = if apart { by_topic } else { value.split_once('|').unwrap_or_default() };
            let headers = header.as_ref().map(|header| format!("h={header};")).unwrap_or_default();
            let known = mark == "l" || mark == "r";
            Some(known.then_some(()).and(key).map(|key| Input {
                event,
                left: mark == "l",
                apart,
                key,
                text: text.to_owned(),
                at: *at,
                headers,
            }))
        }
    };
    program.events.iter().enumerate().filter_map(input).collect()
}

/// A record that is kept to be joined, and the stream time at which it came.
struct Kept {
    input: Input,
    stream_time: i64,
}

#[derive(Default)]
struct Side {
    kept: Vec<Kept>,
    /// The greatest time of this side: Kafka Streams' stores forget by it.
    observed: i64,
}

struct Model {
    join: Join,
    /// Kafka Streams' rules, not ours.
    theirs: bool,
    /// The stream time of the record at hand, and the one that nothing to come is behind.
    stream_time: i64,
    watermark: i64,
    /// The greatest time of the left and the right topic.
    lanes: [i64; 2],
    /// Left, right.
    sides: [Side; 2],
    /// By time, right before left, and key.
    waiting: BTreeMap<(i64, bool, String), Vec<Input>>,
    /// The earliest time that Kafka Streams believes to wait.
    earliest: i64,
    rows: Vec<Row>,
}

impl Model {
    fn run(join: Join, theirs: bool, inputs: &[Input]) -> Vec<Row> {
        let mut model = Self {
            join,
            theirs,
            stream_time: -1,
            watermark: -1,
            lanes: [-1; 2],
            sides: Default::default(),
            waiting: BTreeMap::new(),
            earliest: i64::MAX,
            rows: Vec::new(),
        };
        inputs.iter().for_each(|input| model.take(input));
        model.rows
    }

    fn take(&mut self, input: &Input) {
        let before = self.watermark;
        self.advance(input);
        let advanced = self.watermark > before;
        if input.text.is_empty() {
            // It says what time it is: ours needs no more to give out what has waited in vain, and Kafka Streams' store forgets.
            if self.theirs {
                self.observe(input);
            } else if advanced {
                self.release(input);
            }
            return;
        }
        let late = self.keep(input);
        if if self.theirs { self.looks_at_waiting(input) } else { advanced } {
            self.release(input);
        }
        let partners = if late && !self.theirs { Vec::new() } else { self.partners(input) };
        for other in &partners {
            self.waiting.remove(&(other.at, other.left, other.key.clone()));
            let (left, right) = if input.left { (input, other) } else { (other, input) };
            let value = functions::join(Some(&left.text), Some(&right.text));
            self.write(input, input, value, input.at.max(other.at), true);
        }
        if partners.is_empty() && self.join.outer(input.left) {
            self.alone(input, late);
        }
    }

    /// Kafka Streams' join has one time for both sides, ours one for each topic.
    fn advance(&mut self, input: &Input) {
        let lane = usize::from(!input.left && input.apart && !self.theirs);
        self.lanes[lane] = self.lanes[lane].max(input.at);
        self.stream_time = self.lanes[lane];
        let one = !input.apart || self.theirs;
        self.watermark = if one { self.stream_time } else { self.lanes[0].min(self.lanes[1]) };
    }

    fn observe(&mut self, input: &Input) -> &mut Side {
        let side = &mut self.sides[usize::from(!input.left)];
        side.observed = side.observed.max(input.at);
        side
    }

    /// Ours refuses what is too late for any partner; Kafka Streams' store refuses by the time of its own side.
    fn keep(&mut self, input: &Input) -> bool {
        let (retention, stream_time, theirs) = (self.join.retention(), self.stream_time, self.theirs);
        let side = self.observe(input);
        let late =
            if theirs { input.at <= side.observed - retention } else { input.at < stream_time - retention };
        if !late {
            side.kept.push(Kept { input: input.clone(), stream_time });
        }
        late
    }

    /// Kafka Streams looks only at records that are the latest, and only if the earliest that waits may be due.
    fn looks_at_waiting(&self, input: &Input) -> bool {
        let after = self.join.reach(input.left).1;
        let due = self.earliest.wrapping_add(after).wrapping_add(self.join.grace);
        input.at == self.stream_time && due < self.stream_time
    }

    /// Writes what has waited in vain.
    fn release(&mut self, input: &Input) {
        self.earliest = i64::MAX;
        // Kafka Streams stops at the first record behind an open one of each side, and believes that it is the earliest.
        let (mut open, mut stopped) = ([false; 2], false);
        for ((at, left, key), waiting) in std::mem::take(&mut self.waiting) {
            let waits = self.join.closes(left, at) >= self.watermark;
            for _ in &waiting {
                if !stopped {
                    self.earliest = at;
                }
                stopped |= open == [true; 2];
                open[usize::from(left)] |= waits;
            }
            if waits {
                self.waiting.insert((at, left, key), waiting);
                continue;
            }
            for one in waiting {
                self.write_alone(input, &one, self.theirs);
            }
        }
    }

    fn partners(&self, input: &Input) -> Vec<Input> {
        let (before, after) = self.join.reach(input.left);
        let side = &self.sides[usize::from(input.left)];
        let oldest = side.observed - self.join.retention() + 1;
        let fits = |kept: &&Kept| {
            let other = &kept.input;
            let near = other.at >= input.at - before && other.at <= input.at + after;
            let in_time = if self.theirs {
                other.at >= oldest
            } else {
                kept.stream_time <= self.join.closes(input.left, input.at)
                    && self.stream_time <= self.join.closes(other.left, other.at)
            };
            other.key == input.key && near && in_time
        };
        let mut partners: Vec<Input> = side.kept.iter().filter(fits).map(|kept| kept.input.clone()).collect();
        partners.sort_by_key(|other| other.at);
        partners
    }

    /// Ours waits until grace has passed, too.
    fn alone(&mut self, input: &Input, late: bool) {
        let last = if self.theirs {
            input.at + self.join.reach(input.left).1
        } else {
            self.join.closes(input.left, input.at)
        };
        if last < self.watermark || (late && !self.theirs) {
            return self.write_alone(input, input, true);
        }
        self.earliest = self.earliest.min(input.at);
        self.waiting.entry((input.at, input.left, input.key.clone())).or_default().push(input.clone());
    }

    fn write_alone(&mut self, now: &Input, one: &Input, headers: bool) {
        let text = Some(one.text.as_str());
        let value = if one.left { functions::join(text, None) } else { functions::join(None, text) };
        self.write(now, one, value, one.at, headers);
    }

    fn write(&mut self, now: &Input, one: &Input, value: String, at: i64, headers: bool) {
        self.rows.push(Row {
            event: now.event,
            topic: "out0".to_owned(),
            key: Some(one.key.clone()),
            value: Some(value),
            at,
            headers: if headers { now.headers.clone() } else { String::new() },
        });
    }
}
