//! Who uses a topic, as `headwater topic describe` asks for it: the value of the configuration key
//! [`KEY`], which is told only to who asks for it by name.
//!
//! ```text
//! {"uses": [{"kind": "writer", "principal": "User:orders", "client_id": "orders-1", "transactional_ids": ["orders-0"],
//!            "groups": [], "first_seen": ms, "last_seen": ms}], "left_out": 0, "dropped": 0}
//! ```

use headwater_coordinator::{DescribedUsage, UsageKind, UsageRecord};
use headwater_model::TimestampMs;
use serde_json::{Value, json};

/// No setting of the topic; Apache Kafka knows no such key and answers nothing.
pub const KEY: &str = "headwater.usage";
/// An answer stays of ordinary size.
const MOST: usize = 2000;

/// A client in one direction, whatever it came through.
struct Line<'a> {
    of: &'a UsageRecord,
    through: Vec<&'a str>,
    first: TimestampMs,
    last: TimestampMs,
}

fn lines(rows: &[UsageRecord]) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    let alike = |a: &UsageRecord, b: &UsageRecord| {
        (a.of.kind, &a.of.principal, &a.of.client_id) == (b.of.kind, &b.of.principal, &b.of.client_id)
    };
    for row in rows {
        let through = row.of.through.as_deref();
        match lines.last_mut().filter(|line| alike(line.of, row)) {
            Some(line) => {
                line.through.extend(through);
                line.first = line.first.min(row.first_ms);
                line.last = line.last.max(row.last_ms);
            }
            None => lines.push(Line {
                of: row,
                through: through.into_iter().collect(),
                first: row.first_ms,
                last: row.last_ms,
            }),
        }
    }
    lines
}

/// Those that were seen last, when there are too many. `sees` says which transactional ids of writers and groups of
/// readers may be named; who writes and reads is told without the others.
pub fn report(usage: &DescribedUsage, dropped: u64, sees: impl Fn(UsageKind, &str) -> bool) -> Value {
    let mut lines = lines(&usage.rows);
    for line in &mut lines {
        line.through.retain(|name| sees(line.of.of.kind, name));
    }
    let left_out = lines.len().saturating_sub(MOST);
    if left_out > 0 {
        lines.sort_by_key(|line| std::cmp::Reverse(line.last));
        lines.truncate(MOST);
    }
    let none: &[&str] = &[];
    let uses = lines.iter().map(|line| {
        let (kind, transactional_ids, groups) = match line.of.of.kind {
            UsageKind::Writer => ("writer", &line.through[..], none),
            UsageKind::Reader => ("reader", none, &line.through[..]),
        };
        json!({
            "kind": kind,
            "principal": line.of.of.principal,
            "client_id": line.of.of.client_id,
            "transactional_ids": transactional_ids,
            "groups": groups,
            "first_seen": line.first,
            "last_seen": line.last,
        })
    });
    json!({ "uses": uses.collect::<Vec<_>>(), "left_out": left_out, "dropped": dropped })
}
