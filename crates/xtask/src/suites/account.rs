//! What was produced beside what was read: every record is a line, and lines are counted.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// The lines of a program's output that are records.
pub fn records(text: &str) -> Vec<String> {
    text.lines().filter(|line| line.starts_with("record ")).map(str::to_owned).collect()
}

/// How often a record may come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Times {
    Once,
    AtLeastOnce,
}

/// Fails unless what was read is what was produced, and nothing else.
pub fn same(produced: &[String], read: &[String], times: Times) -> Result<()> {
    if produced.is_empty() {
        bail!("nothing was produced");
    }
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for line in produced {
        counts.entry(line).or_default().0 += 1;
    }
    for line in read {
        counts.entry(line).or_default().1 += 1;
    }
    let of = |wrong: fn(usize, usize) -> bool| -> Vec<&str> {
        counts.iter().filter(|(_, (put, got))| wrong(*put, *got)).map(|(line, _)| *line).collect()
    };
    let lost = of(|put, got| got < put);
    let strange = of(|put, got| put == 0 && got > 0);
    let more = of(|put, got| put > 0 && got > put);
    let more = if times == Times::Once { more } else { Vec::new() };
    let mut wrong = Vec::new();
    for (word, lines) in [("lost", &lost), ("too often", &more), ("never produced", &strange)] {
        if let Some(first) = lines.first() {
            wrong.push(format!("{} {word} (first: {})", lines.len(), shortened(first)));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("of {} records, {} read: {}", produced.len(), read.len(), wrong.join(", "))
}

fn shortened(line: &str) -> &str {
    line.get(..160).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn what_is_lost_doubled_or_made_up_is_told() {
        same(&lines("a b b c"), &lines("b c a b"), Times::Once).expect("the same in another order");
        for (read, times, said) in [
            ("a b c", Times::Once, "1 lost (first: b)"),
            ("a b b b c", Times::Once, "1 too often (first: b)"),
            ("a b b c d", Times::AtLeastOnce, "1 never produced (first: d)"),
            ("a b c c", Times::AtLeastOnce, "1 lost (first: b)"),
        ] {
            let error = same(&lines("a b b c"), &lines(read), times).expect_err(read);
            assert!(error.to_string().contains(said), "{error}");
        }
        same(&lines("a b"), &lines("b a a b"), Times::AtLeastOnce).expect("more often is allowed");
        assert!(same(&[], &[], Times::Once).is_err());
    }

    #[test]
    fn only_records_are_taken_from_an_output() {
        let said = "2026 WARN record of nothing\nrecord 0 17 0x6b null\ndone\n";
        assert_eq!(records(said), ["record 0 17 0x6b null"]);
    }
}
