//! What the run has shown: for people, and as one line of JSON.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::oracle::{Dropped, Verdict};

/// The verdict and the figures of one run.
#[derive(Debug, Clone)]
pub struct Report {
    pub verdict: Verdict,
    /// Records that the windows dropped and put aside.
    pub dropped: Dropped,
    /// Records that did not decode, or could not be encoded.
    pub dead_letters: u64,
    /// Events published by the sources.
    pub events: u64,
    /// From the first statement of the legacy program to the last row of the sink.
    pub lived: Duration,
    /// From start to the last row of the sink.
    pub took: Duration,
    pub cpu_seconds: Option<f64>,
    /// Sum of the peaks of all processes that run at the same time.
    pub peak_rss_bytes: Option<u64>,
    /// From start to a node that serves.
    pub ready: Duration,
    /// From start to the first event that is acknowledged.
    pub first_event: Duration,
    /// How often a process was killed, if that was wanted.
    pub kills: Option<u64>,
    pub data_dir: PathBuf,
}

impl Report {
    /// Rows that differ, and late events too many or too few.
    pub fn differences(&self) -> u64 {
        let expected = self.verdict.dropped;
        let dropped =
            self.dropped.departures.abs_diff(expected.departures) + self.dropped.legs.abs_diff(expected.legs);
        self.verdict.differences() + dropped + self.dead_letters
    }

    pub fn is_equal(&self) -> bool {
        self.differences() == 0
    }

    pub fn events_per_second(&self) -> f64 {
        self.events as f64 / self.lived.as_secs_f64().max(0.001)
    }

    /// The line that `--json` ends with.
    pub fn json(&self) -> Value {
        let tables: Map<String, Value> = self
            .verdict
            .tables()
            .map(|table| {
                let first: Vec<_> = table.first.iter().map(ToString::to_string).collect();
                let rows = json!({ "rows_compared": table.rows_compared, "differences": table.differences, "first": first });
                (table.table.clone(), rows)
            })
            .collect();
        json!({
            "verdict": if self.is_equal() { "equal" } else { "different" },
            "rows_compared": self.verdict.rows_compared(),
            "differences": self.differences(),
            "dropped_late": self.dropped.departures + self.dropped.legs,
            "events": self.events,
            "events_per_second": self.events_per_second().round() as u64,
            "cpu_seconds": self.cpu_seconds,
            "peak_rss_bytes": self.peak_rss_bytes,
            "ready_ms": self.ready.as_millis() as u64,
            "first_event_ms": self.first_event.as_millis() as u64,
            "lived_ms": self.lived.as_millis() as u64,
            "took_ms": self.took.as_millis() as u64,
            "kills": self.kills,
            "dead_letters": self.dead_letters,
            "dropped_late_expected": self.verdict.dropped.departures + self.verdict.dropped.legs,
            "data_dir": self.data_dir,
            "tables": tables,
        })
    }

    fn differences_in_words(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for table in self.verdict.tables().filter(|table| table.differences > 0) {
            writeln!(f, "{}: {} rows differ, the first:", table.table, number(table.differences))?;
            table.first.iter().try_for_each(|difference| writeln!(f, "  {difference}"))?;
        }
        let (found, expected) = (self.dropped, self.verdict.dropped);
        if found != expected {
            writeln!(
                f,
                "late: {} departures and {} legs were dropped, expected {} and {}",
                found.departures, found.legs, expected.departures, expected.legs
            )?;
        }
        if self.dead_letters > 0 {
            writeln!(f, "dead letters: {}; see the *.dead-letter topics", number(self.dead_letters))?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = number(self.verdict.rows_compared());
        match self.differences() {
            0 => writeln!(f, "EQUAL: {rows} rows compared, none differs\n")?,
            count => {
                writeln!(f, "DIFFERENT: {rows} rows compared, {} differ\n", number(count))?;
                self.differences_in_words(f)?;
                writeln!(f)?;
            }
        }
        for table in self.verdict.tables() {
            writeln!(f, "  {:<22} {:>9} rows", table.table, number(table.rows_compared))?;
        }
        let Dropped { departures, legs } = self.dropped;
        writeln!(f, "\n  late      {} dropped: {departures} departures, {legs} legs", departures + legs)?;
        let rate = number(self.events_per_second() as u64);
        writeln!(
            f,
            "  events    {} in {:.1} s: {rate} a second",
            number(self.events),
            self.lived.as_secs_f64()
        )?;
        if let Some(seconds) = self.cpu_seconds {
            writeln!(f, "  processor {seconds:.1} s")?;
        }
        if let Some(bytes) = self.peak_rss_bytes {
            writeln!(f, "  memory    {} MB at most", number(bytes / 1_000_000))?;
        }
        match self.kills {
            None => {}
            Some(0) => writeln!(
                f,
                "  killed    never: it was through before the first kill was due; let it live more days, or kill more often"
            )?,
            Some(1) => writeln!(f, "  killed    once")?,
            Some(kills) => writeln!(f, "  killed    {kills} times")?,
        }
        let (ready, first) = (self.ready.as_millis(), self.first_event.as_millis());
        writeln!(f, "  start     ready after {ready} ms, first event acknowledged after {first} ms")?;
        write!(f, "  data      {}", self.data_dir.display())
    }
}

/// `1234567` as `1,234,567`.
fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(found: Dropped) -> Report {
        let verdict =
            Verdict { legacy: vec![], answers: vec![], dropped: Dropped { departures: 2, legs: 1 } };
        Report {
            verdict,
            dropped: found,
            dead_letters: 0,
            events: 1_234_567,
            lived: Duration::from_secs(10),
            took: Duration::from_secs(11),
            cpu_seconds: Some(1.5),
            peak_rss_bytes: Some(300_000_000),
            ready: Duration::from_millis(12),
            first_event: Duration::from_millis(34),
            kills: None,
            data_dir: PathBuf::from("/somewhere"),
        }
    }

    #[test]
    fn a_late_event_too_few_is_a_difference() {
        let equal = report(Dropped { departures: 2, legs: 1 });
        assert_eq!(equal.json()["verdict"], "equal");
        assert_eq!(equal.json()["events_per_second"], 123_457);
        assert!(equal.to_string().starts_with("EQUAL: 0 rows compared"), "{equal}");
        let unharmed = Report { kills: Some(0), ..equal };
        assert!(unharmed.to_string().contains("never"), "{unharmed}");
        let different = report(Dropped { departures: 1, legs: 1 });
        assert_eq!((different.json()["verdict"].as_str(), different.differences()), (Some("different"), 1));
        assert!(different.to_string().contains("expected 2 and 1"), "{different}");
    }
}
