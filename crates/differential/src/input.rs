//! Random input: a few keys, values that tell where they came from, nulls, duplicates, and times that jump back and forth.

use crate::case::Event;
use crate::draw::Draw;

/// A topic that records go to.
#[derive(Debug, Clone, Copy)]
pub struct Topic {
    pub name: &'static str,
    /// Values are drawn for several streams in one topic, each told by a mark.
    pub marks: &'static [&'static str],
    pub null_keys: bool,
    pub null_values: bool,
}

impl Topic {
    pub const fn new(name: &'static str) -> Self {
        Self { name, marks: &[], null_keys: true, null_values: true }
    }

    /// Without null keys, which nobody sees behind an operator that needs a key.
    pub const fn keyed(self) -> Self {
        Self { null_keys: false, ..self }
    }

    pub const fn full(self) -> Self {
        Self { null_keys: false, null_values: false, ..self }
    }
}

/// How a case's time and topics behave.
pub struct Input {
    pub topics: Vec<Topic>,
    /// Milliseconds of a usual step; windows are a few of these.
    pub pace: i64,
    /// The wall clock moves, too.
    pub wall: bool,
    pub longest: u32,
}

impl Input {
    pub fn of(topics: &[Topic]) -> Self {
        Self { topics: topics.to_vec(), pace: 4, wall: false, longest: 30 }
    }

    pub fn draw(&self, draw: &mut Draw) -> Vec<Event> {
        let count = 3 + draw.below(self.longest);
        let mut at = i64::from(draw.below(60));
        let (mut events, mut last): (Vec<Event>, Option<Event>) = (Vec::new(), None);
        for number in 0..count {
            if self.wall && draw.one_in(4) {
                events.push(Event::Clock { wall: u64::from(1 + draw.below(40)) });
                continue;
            }
            at = self.next(at, draw);
            let event = match last.take() {
                Some(before) if draw.one_in(12) => before,
                _ => self.record(number, at, draw),
            };
            last = Some(event.clone());
            events.push(event);
        }
        events
    }

    /// On by a little, not at all, over several windows, or back.
    fn next(&self, at: i64, draw: &mut Draw) -> i64 {
        let up_to = |steps: i64, draw: &mut Draw| i64::from(draw.below((steps * self.pace) as u32 + 1));
        let next = match draw.below(16) {
            0..3 => at,
            3..9 => at + up_to(2, draw),
            9 => at + up_to(30, draw),
            10 | 11 => at + up_to(8, draw),
            12 | 13 => at - up_to(4, draw),
            14 => at - up_to(10, draw),
            _ => at - up_to(40, draw),
        };
        next.max(0)
    }

    fn record(&self, number: u32, at: i64, draw: &mut Draw) -> Event {
        let topic = self.topics[draw.below(self.topics.len() as u32) as usize];
        let key = (!(topic.null_keys && draw.one_in(12))).then(|| format!("k{}", draw.below(4)));
        let null = topic.null_values && draw.one_in(6);
        let text = if null { String::new() } else { format!("v{number}") };
        let value = match topic.marks {
            [] => (!null).then_some(text),
            marks => Some(format!("{}|{text}", draw.of(marks))),
        };
        let header = draw.coin().then(|| number.to_string());
        Event::Record { topic: topic.name, key, value, at, header }
    }
}
