//! How far inputs have been read, as a token that a writer hands to a reader (KIP-796's `Position`).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use headwater_client::Delivered;
use headwater_model::{Offset, TopicPartition};
use serde::{Deserialize, Serialize};

/// By partition of an input the offset of the last record that counts, printed `topic:partition:offset`, with commas between
/// several. What a write came to be is one ([`Position::of`]), and what a store had seen when it answered is one, too: a
/// question that carries it is answered by a state that has seen as much, or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Position {
    seen: BTreeMap<TopicPartition, Offset>,
}

/// A text that is no position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "read position {text:?}: use topic:partition:offset, such as orders:0:17, with commas between several"
)]
pub struct PositionError {
    pub text: String,
}

impl Position {
    /// Nothing: any state has seen as much.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Up to the record that was delivered; `None` if the broker no longer knew its offset.
    pub fn of(delivered: &Delivered) -> Option<Self> {
        let at = &delivered.topic_partition;
        (delivered.offset >= 0)
            .then(|| Self::empty().with_component(at.topic.as_str(), at.partition, delivered.offset))
    }

    /// Up to this record, too, whatever was said of its partition before.
    pub fn with_component(mut self, topic: impl Into<String>, partition: i32, offset: Offset) -> Self {
        self.seen.insert(TopicPartition::new(topic, partition), offset);
        self
    }

    /// Up to whichever is further, partition by partition.
    pub fn merge(mut self, other: &Self) -> Self {
        for (at, offset) in &other.seen {
            let seen = self.seen.entry(at.clone()).or_insert(*offset);
            *seen = (*seen).max(*offset);
        }
        self
    }

    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// The last record that counts, of each partition.
    pub fn components(&self) -> impl Iterator<Item = (&TopicPartition, Offset)> {
        self.seen.iter().map(|(at, offset)| (at, *offset))
    }

    /// From the offsets that come next; of a partition without a record there is nothing to say.
    pub(crate) fn before<'a>(next: impl IntoIterator<Item = (&'a TopicPartition, &'a Offset)>) -> Self {
        let seen = next.into_iter().filter(|(_, next)| **next > 0);
        Self { seen: seen.map(|(at, next)| (at.clone(), next - 1)).collect() }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (at, offset)) in self.seen.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{}:{}:{offset}", at.topic, at.partition)?;
        }
        Ok(())
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || PositionError { text: text.to_owned() };
        let mut position = Self::empty();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let [topic, partition, offset] = part.split(':').collect::<Vec<_>>()[..] else {
                return Err(wrong());
            };
            let (Ok(partition), Ok(offset)) = (partition.parse::<i32>(), offset.parse::<Offset>()) else {
                return Err(wrong());
            };
            if topic.is_empty() || partition < 0 || offset < 0 {
                return Err(wrong());
            }
            position = position.merge(&Self::empty().with_component(topic, partition, offset));
        }
        Ok(position)
    }
}

impl TryFrom<String> for Position {
    type Error = PositionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Position> for String {
    fn from(position: Position) -> Self {
        position.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_printed_and_read_back_and_merges_upwards() {
        let position = Position::empty().with_component("b.c-d", 3, 7).with_component("a", 0, 0);
        assert_eq!(position.to_string(), "a:0:0,b.c-d:3:7");
        assert_eq!(position.to_string().parse(), Ok(position.clone()));
        assert_eq!("".parse(), Ok(Position::empty()));
        let other: Position = "a:0:9,b.c-d:3:2".parse().unwrap();
        assert_eq!(position.merge(&other).to_string(), "a:0:9,b.c-d:3:7");
        for wrong in ["a", "a:0", "a:0:1:2", "a:x:1", "a:0:-1", "a:-1:0", ":0:1"] {
            assert!(wrong.parse::<Position>().is_err(), "{wrong}");
        }
    }
}
