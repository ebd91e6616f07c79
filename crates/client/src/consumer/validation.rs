//! Whether what was read up to a position is still in its leader's log (KIP-320).
//!
//! A log is cut back where an unclean election makes a replica the leader that lacks its end. The position remembers the
//! leader epoch of the record before it; the leader says where that epoch ends in its own log. If that is before the
//! position, what follows there is not what was read. A log that was cut back and is longer than the position by now is
//! not noticed where a later epoch took the place, as compaction leaves the same picture.

use headwater_model::{Offset, TopicPartition};
use headwater_wire::ErrorCode;
use headwater_wire::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequestData, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use headwater_wire::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderEpochResponseData,
};

use super::fetcher::Flight;
use super::state::Wanted;
use super::{AutoOffsetReset, Position};
use crate::admin::{by_topic, text};
use crate::cluster::Lane;
use crate::{Client, ClientError};

/// The replica id of who is none.
const CONSUMER: i32 = -1;

impl Wanted {
    /// Whether the leader that is known now has not been asked yet.
    pub(super) fn is_unvalidated(&self) -> bool {
        self.from.leader_epoch.is_some() && self.leader_epoch >= 0 && self.leader_epoch != self.validated
    }
}

/// Where the leader's log parts from what was read, when the last epoch it has up to the position's is `epoch`, and ends at
/// `end`; `None` where nothing parts.
pub(super) fn divergence(from: Position, epoch: i32, end: Offset) -> Option<Divergence> {
    match () {
        () if epoch < 0 || end < 0 => Some(Divergence::Unknown),
        () if end < from.offset => Some(Divergence::At(Position { offset: end, leader_epoch: Some(epoch) })),
        () => None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Divergence {
    At(Position),
    /// Somewhere before the position: the leader has nothing of the epoch.
    Unknown,
}

impl Flight {
    /// Asks the leader about each partition's position; those that are right may be fetched.
    pub(super) async fn validate(&self, address: &str) {
        match ask(&self.client, address, &self.part).await {
            Ok(answer) => self.judge(address, answer).await,
            // A broker that knows no epochs cannot contradict.
            Err(ClientError::TooOld { .. }) => self.part.iter().for_each(|wanted| self.is_valid(wanted)),
            Err(error) => self.all_failed(&error),
        }
        self.finish();
    }

    fn is_valid(&self, wanted: &Wanted) {
        let mut state = self.shared.lock();
        state.validated(wanted);
        state.healthy(wanted);
    }

    async fn judge(&self, address: &str, answer: OffsetForLeaderEpochResponseData) {
        let asked = self.by_place();
        for topic in answer.topics {
            for end in topic.partitions {
                let at = TopicPartition::new(topic.topic.as_str(), end.partition);
                if let Some(wanted) = asked.get(&at).copied() {
                    self.judge_one(address, wanted, &end).await;
                }
            }
        }
    }

    async fn judge_one(&self, address: &str, wanted: &Wanted, end: &EpochEndOffset) {
        match ErrorCode::from(end.error_code) {
            ErrorCode::None => match divergence(wanted.from, end.leader_epoch, end.end_offset) {
                None => self.is_valid(wanted),
                Some(divergence) => self.diverged(wanted, divergence).await,
            },
            code => {
                let what = format!("validate the position in {} with {address}", wanted.at);
                self.failed(wanted, ClientError::kafka(what, code.code(), None));
            }
        }
    }

    /// What was read from there on is not in the log any more.
    ///
    /// Nobody is told of what only was in the buffer. What the caller has seen is an error, unless it left the choice to the
    /// policy: then reading goes on where the logs part, as Kafka's consumer does, or, where that is not known, where the
    /// policy says.
    pub(super) async fn diverged(&self, wanted: &Wanted, divergence: Divergence) {
        let policy = self.shared.config.auto_offset_reset;
        let divergent = match divergence {
            Divergence::At(at) => Some(at),
            Divergence::Unknown => None,
        };
        let Some(seen) = self.shared.lock().drop_buffer(wanted, divergent) else { return };
        tracing::warn!(at = %wanted.at, seen, ?divergent, "the log was truncated");
        let outcome = match (policy, divergent) {
            (AutoOffsetReset::Fail, divergent) => Err(ClientError::Truncated {
                at: wanted.at.clone(),
                offset: seen,
                divergent: divergent.map(|at| at.offset),
            }),
            (_, Some(at)) => {
                self.shared.lock().reset(wanted, at);
                Ok(())
            }
            (_, None) => self.reset(wanted).await,
        };
        if let Err(error) = outcome {
            self.failed(wanted, error);
        }
    }
}

async fn ask(
    client: &Client,
    address: &str,
    part: &[Wanted],
) -> Result<OffsetForLeaderEpochResponseData, ClientError> {
    let topics = by_topic(part.iter().map(|wanted| (&wanted.at, wanted))).into_iter().map(|(name, list)| {
        let partition = |(index, wanted): (i32, &Wanted)| {
            OffsetForLeaderPartition::default()
                .with_partition(index)
                .with_current_leader_epoch(wanted.leader_epoch)
                .with_leader_epoch(wanted.from.leader_epoch.unwrap_or(-1))
        };
        OffsetForLeaderTopic::default()
            .with_topic(text(name))
            .with_partitions(list.into_iter().map(partition).collect())
    });
    let request =
        OffsetForLeaderEpochRequestData::default().with_replica_id(CONSUMER).with_topics(topics.collect());
    client.connection(Lane::ADMIN, address).await?.call(&request, client.request_timeout()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: Position = Position { offset: 10, leader_epoch: Some(3) };

    #[test]
    fn an_epoch_that_reaches_the_position_is_right_whoever_leads() {
        assert_eq!(divergence(FROM, 3, 10), None);
        assert_eq!(divergence(FROM, 3, 99), None);
    }

    /// A replica that copied a compacted log never hears of an epoch of which no record is left.
    #[test]
    fn an_epoch_that_compaction_took_contradicts_nothing() {
        assert_eq!(divergence(FROM, 2, 10), None);
        assert_eq!(divergence(FROM, 2, 15), None);
    }

    #[test]
    fn an_epoch_that_ends_before_the_position_says_where_to_go_on() {
        let at = Position { offset: 7, leader_epoch: Some(2) };
        assert_eq!(divergence(FROM, 2, 7), Some(Divergence::At(at)));
    }

    #[test]
    fn a_leader_that_knows_nothing_of_the_epoch_leaves_open_where() {
        assert_eq!(divergence(FROM, -1, -1), Some(Divergence::Unknown));
        assert_eq!(divergence(FROM, -1, 10), Some(Divergence::Unknown));
    }
}
