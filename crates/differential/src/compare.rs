//! Whether both sides wrote the same, record by record and in order.

use std::fmt::Write as _;

use anyhow::Result;

use crate::case::{Case, Row};
use crate::java::Theirs;
use crate::ledger;
use crate::ours;

pub enum Verdict {
    Same,
    /// An entry of the ledger explains what differs.
    Explained(&'static str),
    Different,
}

pub struct Compared {
    pub verdict: Verdict,
    pub theirs: Vec<Row>,
    pub ours: Vec<Row>,
}

/// Runs ours and compares.
pub fn compare(case: &Case, theirs: Theirs) -> Result<Compared> {
    let ours = ours::run(&case.program)?;
    let verdict = judge(case, &theirs, &ours);
    Ok(Compared { verdict, theirs: theirs.rows, ours })
}

fn judge(case: &Case, theirs: &Theirs, ours: &[Row]) -> Verdict {
    if theirs.rows == ours {
        return Verdict::Same;
    }
    if let Some(entry) = ledger::explain(&case.program, &theirs.rows, ours) {
        return Verdict::Explained(entry);
    }
    if case.bare && (theirs.bare == ours || ledger::explain(&case.program, &theirs.bare, ours).is_some()) {
        return Verdict::Explained(ledger::initial::NAME);
    }
    Verdict::Different
}

fn line(row: &Row) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "null".to_owned());
    let Row { event, topic, at, headers, .. } = row;
    format!("{event:4} {topic} {} = {} @ {at} {headers}", text(&row.key), text(&row.value))
}

/// Both sides' rows beside each other; those that only one has are marked.
pub fn shown(theirs: &[Row], ours: &[Row]) -> String {
    let mut text = String::new();
    let only = |rows: &[Row], others: &[Row], name: &str, text: &mut String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name}: {} records", rows.len());
        for row in rows {
            let mark = if others.contains(row) { ' ' } else { '*' };
            let _ = writeln!(text, "  {mark} {}", line(row));
        }
    };
    only(theirs, ours, "Kafka Streams", &mut text);
    only(ours, theirs, "Headwater", &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families;

    fn different(case: &Case, theirs: &[Row], ours: &[Row]) -> bool {
        let theirs = Theirs { rows: theirs.to_vec(), bare: theirs.to_vec() };
        matches!(judge(case, &theirs, ours), Verdict::Different)
    }

    /// A planted mistake in every row of many cases of every family is found, the ledger notwithstanding.
    #[test]
    fn a_record_that_is_changed_lost_or_repeated_is_a_difference() {
        for id in 0..400 {
            let case = families::draw(11, id, None);
            let right = ours::run(&case.program).unwrap();
            for place in 0..right.len().min(12) {
                let mut other = right.clone();
                other[place].value = Some("wrong".to_owned());
                assert!(different(&case, &right, &other), "{} {id}: a value", case.family);
                let mut fewer = right.clone();
                let lost = fewer.remove(place);
                // The ledger knows tombstones that tell nothing new.
                if lost.value.is_some() {
                    let mut late = right.clone();
                    late[place].at += 1;
                    assert!(different(&case, &right, &late), "{} {id}: a timestamp", case.family);
                    assert!(different(&case, &right, &fewer), "{} {id}: a loss", case.family);
                    fewer.insert(place, lost.clone());
                    fewer.insert(place, lost);
                    assert!(different(&case, &right, &fewer), "{} {id}: a repetition", case.family);
                }
            }
        }
    }
}
