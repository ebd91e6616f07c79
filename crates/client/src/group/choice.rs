//! Which protocol a member speaks, and what all have in common.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::membership::News;
use super::seat::Seat;
use super::{GroupConfig, Lease, StreamsApplication, consumer_protocol, membership, streams_protocol};
use crate::{Client, ClientError};

/// Who assigns partitions (Kafka's `group.protocol`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum GroupProtocol {
    /// The members, by the assignor they share; at each change all of them stop and join again.
    #[default]
    Classic,
    /// The broker (KIP-848): each member gives up and takes what it must, and goes on with the rest. Needs
    /// Apache Kafka 4.0 or later.
    Consumer(Remote),
    /// The broker, by the tasks of a topology (KIP-1071). Needs Apache Kafka 4.2 or later.
    Streams(Arc<StreamsApplication>),
}

/// What only the consumer protocol has; nothing of it unless set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Remote {
    /// The broker's assignor by its name, `uniform` or `range` (Kafka's `group.remote.assignor`); by default as the broker
    /// is configured.
    pub assignor: Option<String>,
    /// A regular expression (RE2's syntax) that the broker matches against whole topic names, also of topics to come.
    pub pattern: Option<String>,
}

impl GroupProtocol {
    /// The consumer protocol with what the broker does by default.
    pub fn consumer() -> Self {
        Self::Consumer(Remote::default())
    }
}

impl FromStr for GroupProtocol {
    type Err = String;

    /// Kafka's own words, in any case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "classic" => Ok(Self::Classic),
            "consumer" => Ok(Self::consumer()),
            _ => Err(format!("group.protocol is classic or consumer, not {text}")),
        }
    }
}

/// The task that speaks the chosen protocol.
pub(super) enum Membership {
    Classic(membership::Membership),
    Consumer(Seat),
    Streams(Seat),
}

impl Membership {
    pub(super) fn start(
        client: Client,
        config: GroupConfig,
        manage_positions: Arc<AtomicBool>,
        lease: Lease,
    ) -> Self {
        match config.protocol.clone() {
            GroupProtocol::Classic => {
                Self::Classic(membership::Membership::start(client, config, manage_positions, lease))
            }
            GroupProtocol::Consumer(remote) => {
                Self::Consumer(consumer_protocol::start(client, config, remote, manage_positions, lease))
            }
            GroupProtocol::Streams(application) => {
                Self::Streams(streams_protocol::start(client, config, application, lease))
            }
        }
    }

    /// The caller has let go of what was revoked.
    pub(super) fn release(&self) {
        match self {
            Self::Classic(membership) => membership.release(),
            Self::Consumer(seat) | Self::Streams(seat) => seat.release(),
        }
    }

    /// The group is to rebalance. The others need no such word: there the broker sees what changes.
    pub(super) fn enforce(&self) {
        if let Self::Classic(membership) = self {
            membership.enforce();
        }
    }

    /// May be cancelled without losing anything.
    pub(super) async fn news(&mut self) -> News {
        match self {
            Self::Classic(membership) => membership.news().await,
            Self::Consumer(seat) | Self::Streams(seat) => seat.news().await,
        }
    }

    /// Member id and epoch where they change between events, as under the consumer protocol.
    pub(super) fn standing(&self) -> Option<(String, i32)> {
        match self {
            Self::Classic(_) => None,
            Self::Consumer(seat) | Self::Streams(seat) => seat.standing(),
        }
    }

    /// Whether the member has another epoch than this one within the patience.
    pub(super) async fn passes(&mut self, epoch: i32, patience: Duration) -> bool {
        match self {
            Self::Classic(_) => false,
            Self::Consumer(seat) | Self::Streams(seat) => seat.passes(epoch, patience).await,
        }
    }

    pub(super) async fn leave(self) -> Result<(), ClientError> {
        match self {
            Self::Classic(membership) => membership.leave().await,
            Self::Consumer(seat) => consumer_protocol::leave(seat).await,
            Self::Streams(seat) => streams_protocol::leave(seat).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_is_named_as_kafka_names_it() {
        assert_eq!("CONSUMER".parse(), Ok(GroupProtocol::consumer()));
        assert_eq!("classic".parse(), Ok(GroupProtocol::Classic));
        assert!("share".parse::<GroupProtocol>().unwrap_err().contains("share"));
    }
}
