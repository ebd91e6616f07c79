//! Dead letters read back: where a record came from, why it failed, and the record as it was.
//!
//! The headers are KIP-1034's, so that letters that Apache Kafka Streams wrote are read, too. How often a record was sent
//! back is in `__headwater.redrives`, a decimal number as text: by it one is known that fails again and again.

use headwater_model::{Bytes, Header, Offset, Record};

const PREFIX: &str = "__streams.errors.";
/// What KIP-1034 names after the prefix.
const NAMES: [&str; 6] = ["exception", "stacktrace", "message", "topic", "partition", "offset"];
/// How often the record was sent back to its topic.
pub const REDRIVES_HEADER: &str = "__headwater.redrives";

/// What a dead letter says about its failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Topic, partition and offset of the record that failed.
    pub topic: String,
    pub partition: i32,
    pub offset: Offset,
    /// What kind of failure it was, and where.
    pub exception: String,
    pub message: String,
    /// How often it had been sent back before it failed.
    pub redrives: u32,
}

/// A record that is no dead letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LetterError {
    #[error("find header {PREFIX}{name}: there is none, so this record is no dead letter")]
    Missing { name: &'static str },
    #[error("read header {PREFIX}{name}: {value:?} is no number")]
    NoNumber { name: &'static str, value: String },
}

/// The last header of that name: what failed twice without having been redriven has both failures.
fn text(record: &Record, key: &str) -> Option<String> {
    let found = record.headers.iter().rev().find(|header| header.key == key)?;
    found.value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned())
}

fn of(record: &Record, name: &str) -> Option<String> {
    text(record, &format!("{PREFIX}{name}"))
}

fn number<T: std::str::FromStr>(record: &Record, name: &'static str) -> Result<T, LetterError> {
    let value = of(record, name).ok_or(LetterError::Missing { name })?;
    value.parse().map_err(|_| LetterError::NoNumber { name, value })
}

impl DeadLetter {
    pub fn read(record: &Record) -> Result<Self, LetterError> {
        Ok(Self {
            topic: of(record, "topic").ok_or(LetterError::Missing { name: "topic" })?,
            partition: number(record, "partition")?,
            offset: number(record, "offset")?,
            exception: of(record, "exception").unwrap_or_default(),
            message: of(record, "message").unwrap_or_default(),
            // Whatever else is under that name was not written here, and counts for nothing.
            redrives: text(record, REDRIVES_HEADER).and_then(|count| count.parse().ok()).unwrap_or(0),
        })
    }

    /// The headers that the record had when it failed, and that it is sent back once more.
    pub fn redriven_headers(&self, record: &Record) -> Vec<Header> {
        let mut headers: Vec<Header> =
            record.headers.iter().filter(|header| !is_ours(&header.key)).cloned().collect();
        let count = Bytes::from(self.redrives.saturating_add(1).to_string());
        headers.push(Header { key: REDRIVES_HEADER.to_owned(), value: Some(count) });
        headers
    }
}

fn is_ours(key: &str) -> bool {
    key == REDRIVES_HEADER || key.strip_prefix(PREFIX).is_some_and(|name| NAMES.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(headers: &[(&str, &str)]) -> Record {
        let header = |(key, value): &(&str, &str)| Header {
            key: (*key).to_owned(),
            value: Some(Bytes::from((*value).to_owned())),
        };
        Record { headers: headers.iter().map(header).collect(), ..Record::default() }
    }

    #[test]
    fn headers_of_others_stay_and_the_count_goes_up() {
        let letter = record(&[
            ("trace", "t1"),
            (REDRIVES_HEADER, "2"),
            ("__streams.errors.mine", "kept"),
            ("__streams.errors.exception", "E"),
            ("__streams.errors.stacktrace", "at"),
            ("__streams.errors.topic", "in"),
            ("__streams.errors.partition", "3"),
            ("__streams.errors.offset", "17"),
        ]);
        let read = DeadLetter::read(&letter).unwrap();
        assert_eq!((read.topic.as_str(), read.partition, read.offset, read.redrives), ("in", 3, 17, 2));
        let expected = record(&[("trace", "t1"), ("__streams.errors.mine", "kept"), (REDRIVES_HEADER, "3")]);
        assert_eq!(read.redriven_headers(&letter), expected.headers);
    }

    #[test]
    fn a_record_without_an_origin_is_no_letter() {
        let error = DeadLetter::read(&record(&[("__streams.errors.topic", "in")])).unwrap_err();
        assert_eq!(error, LetterError::Missing { name: "partition" });
        let wrong = record(&[("__streams.errors.topic", "in"), ("__streams.errors.partition", "x")]);
        assert!(DeadLetter::read(&wrong).unwrap_err().to_string().contains("\"x\""));
    }
}
