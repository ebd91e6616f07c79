//! A topology while it is drawn.

use std::collections::HashSet;

use crate::case::{At, Event, How, KeyFunction, Kind, Program, Step, ValueFunction};
use crate::draw::Draw;
use crate::input::Input;

pub struct Plan<'a> {
    pub draw: &'a mut Draw,
    program: Program,
    handles: At,
    sinks: usize,
}

impl<'a> Plan<'a> {
    pub fn new(draw: &'a mut Draw) -> Self {
        Self { draw, program: Program::default(), handles: 0, sinks: 0 }
    }

    /// The last handle that the step made.
    pub fn add(&mut self, step: Step) -> At {
        self.handles += match &step {
            Step::Split { moduli, rest, .. } => moduli.len() + usize::from(*rest),
            _ => 1,
        };
        self.program.steps.push(step);
        self.handles - 1
    }

    pub fn sink(&mut self, of: At) {
        let topic = format!("out{}", self.sinks);
        self.sinks += 1;
        self.add(Step::Sink { of, topic });
    }

    /// Writes a table's changes to a topic.
    pub fn sink_table(&mut self, of: At) {
        let stream = self.add(Step::ToStream { of });
        self.sink(stream);
    }

    pub fn sink_windows(&mut self, of: At) {
        let stream = self.add(Step::FromWindows { of });
        self.sink(stream);
    }

    pub fn stream(&mut self, topic: &'static str) -> At {
        self.add(Step::Stream { topic, extracts: false })
    }

    pub fn table(&mut self, topic: &'static str) -> At {
        let kept = self.draw.coin();
        self.add(Step::Table { topic, kept, extracts: false })
    }

    pub fn input(&mut self, input: &Input) {
        self.program.events = input.draw(self.draw);
    }

    /// Without tombstones of a time at which their key had a row: Kafka Streams' tables with versions forget those.
    pub fn without_instant_tombstones(&mut self) {
        let mut rows = HashSet::new();
        self.program.events.retain(|event| match event {
            Event::Record { topic, key, value, at, .. } => {
                let place = (*topic, key.clone(), *at);
                if value.is_none() {
                    return !rows.contains(&place);
                }
                rows.insert(place);
                true
            }
            Event::Clock { .. } => true,
        });
    }

    /// All times later by so much.
    pub fn later_by(&mut self, by: i64) {
        for event in &mut self.program.events {
            if let Event::Record { at, .. } = event {
                *at += by;
            }
        }
    }

    /// Only even times, none of them before another.
    pub fn with_even_times_in_order(&mut self) {
        let mut latest = 0;
        for event in &mut self.program.events {
            if let Event::Record { at, .. } = event {
                latest = latest.max(*at * 2);
                *at = latest;
            }
        }
    }

    pub fn how(&mut self) -> How {
        self.draw.of(&[How::Count, How::Reduce, How::Aggregate])
    }

    pub fn kind(&mut self) -> Kind {
        self.draw.of(&[Kind::Inner, Kind::Left, Kind::Outer])
    }

    pub fn inner_or_left(&mut self) -> Kind {
        self.draw.of(&[Kind::Inner, Kind::Left])
    }

    pub fn key(&mut self) -> KeyFunction {
        self.draw.of(&[KeyFunction::Bucket, KeyFunction::Same, KeyFunction::Primed, KeyFunction::Holes])
    }

    pub fn value(&mut self) -> ValueFunction {
        self.draw.of(&[ValueFunction::Mark, ValueFunction::Keyed, ValueFunction::Sift])
    }

    /// A grouping by a new key in half of the cases.
    pub fn new_key(&mut self) -> Option<KeyFunction> {
        self.draw.coin().then(|| self.key())
    }

    pub fn modulus(&mut self) -> (u32, u32) {
        let modulus = 2 + self.draw.below(3);
        (modulus, self.draw.below(modulus))
    }

    pub fn has(&self, step: impl Fn(&Step) -> bool) -> bool {
        self.program.has(step)
    }

    pub fn finish(self) -> Program {
        self.program
    }
}
