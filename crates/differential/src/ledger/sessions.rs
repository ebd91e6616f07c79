//! The last result of a session: ours is written once, when no record can touch the session any more; Kafka Streams' when no
//! record can extend it, which a record that is not late may still do by merging it with another, and then once more.
//!
//! As with joins, a case is explained if each side wrote what a plain model does with that side's rule.

use std::collections::BTreeMap;

use super::{Entry, Sides};
use crate::case::{Event, How, Program, Row, Step};
use crate::functions;

pub const LAST: Entry =
    Entry { name: "last-of-a-session", applies: |program| Sessions::of(program).is_some(), even };

fn even(sides: &mut Sides<'_>) {
    let Some(sessions) = Sessions::of(sides.program) else { return };
    let model = |theirs| Model::run(&sessions, theirs, &sides.program.events);
    if sides.theirs == model(true) && sides.ours == model(false) {
        sides.theirs = sides.ours.clone();
    }
}

/// The last results of a stream's sessions.
struct Sessions {
    how: How,
    gap: i64,
    grace: i64,
}

impl Sessions {
    fn of(program: &Program) -> Option<Self> {
        let [
            Step::Stream { .. },
            Step::AggregateSessions { key: None, how, gap, grace, last: true, .. },
            Step::FromWindows { .. },
            Step::Sink { .. },
        ] = program.steps[..]
        else {
            return None;
        };
        Some(Self { how, gap: gap as i64, grace: grace as i64 })
    }

    /// One more value in a session.
    fn fold(&self, before: Option<&str>, value: Option<&str>) -> String {
        match self.how {
            How::Count => (count(before) + 1).to_string(),
            How::Reduce => {
                let value = value.unwrap_or_default();
                before.map_or_else(|| value.to_owned(), |before| functions::reduce(before, value))
            }
            How::Aggregate => functions::add(value, before.unwrap_or_default()),
        }
    }

    fn merge(&self, earlier: &str, later: &str) -> String {
        match self.how {
            How::Count => (count(Some(earlier)) + count(Some(later))).to_string(),
            How::Reduce | How::Aggregate => functions::reduce(earlier, later),
        }
    }
}

fn count(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// End, key and start: the order in which results are written.
type Window = (i64, String, i64);

struct Model<'a> {
    sessions: &'a Sessions,
    theirs: bool,
    observed: i64,
    kept: BTreeMap<Window, String>,
    waiting: BTreeMap<Window, String>,
    rows: Vec<Row>,
}

impl<'a> Model<'a> {
    fn run(sessions: &'a Sessions, theirs: bool, events: &[Event]) -> Vec<Row> {
        let (kept, waiting) = (BTreeMap::new(), BTreeMap::new());
        let mut model = Self { sessions, theirs, observed: -1, kept, waiting, rows: Vec::new() };
        for (event, happens) in events.iter().enumerate() {
            if let Event::Record { key: Some(key), value, at, .. } = happens {
                model.take(event, key, value.as_deref(), *at);
            }
        }
        model.rows
    }

    fn take(&mut self, event: usize, key: &str, value: Option<&str>, at: i64) {
        let Sessions { gap, grace, .. } = *self.sessions;
        self.observed = self.observed.max(at);
        if !self.theirs {
            self.release(event, self.observed - 2 * gap - grace - 1);
        }
        let touches = |(end, of, start): &&Window| of == key && *end >= at - gap && *start <= at + gap;
        let touched: Vec<Window> = self.kept.keys().filter(touches).cloned().collect();
        let start = touched.iter().map(|window| window.2).fold(at, i64::min);
        let end = touched.iter().map(|window| window.0).fold(at, i64::max);
        if end < self.observed - gap - grace {
            return;
        }
        let mut sum: Option<String> = None;
        for window in touched {
            self.waiting.remove(&window);
            let text = self.kept.remove(&window).unwrap_or_default();
            sum = Some(sum.map_or(text.clone(), |sum| self.sessions.merge(&sum, &text)));
        }
        let text = self.sessions.fold(sum.as_deref(), value);
        let window = (end, key.to_owned(), start);
        self.kept.insert(window.clone(), text.clone());
        self.waiting.insert(window, text);
        if self.theirs {
            self.release(event, self.observed - gap - grace);
        }
    }

    /// Writes the results of sessions that ended at or before `last`.
    fn release(&mut self, event: usize, last: i64) {
        for ((end, key, start), text) in std::mem::take(&mut self.waiting) {
            if end > last {
                self.waiting.insert((end, key, start), text);
                continue;
            }
            self.rows.push(Row {
                event,
                topic: "out0".to_owned(),
                key: Some(format!("{key}@{start}/{end}")),
                value: Some(text),
                at: end,
                headers: String::new(),
            });
        }
    }
}
