//! What waits for a commit: replies, wake-ups, changes of the catalog.

use headwater_coordinator::Response;
use headwater_log::PartitionId;
use headwater_model::Offset;
use tokio::sync::oneshot;

use super::{Answer, Cleaned, Deleted, Marked, Produced, Unavailable};
use crate::catalog::Change;
use crate::rules::RuleChange;
use crate::security::CredentialChange;

/// A reply that is decided and not yet true.
pub enum Reply {
    Asked(oneshot::Sender<Answer<Response>>, Response),
    Produced(oneshot::Sender<Answer<Produced>>, Produced),
    Deleted(oneshot::Sender<Answer<Deleted>>, Deleted),
    Marked(oneshot::Sender<Answer<Marked>>, Marked),
    Installed(oneshot::Sender<Answer<Cleaned>>),
}

impl Reply {
    /// Whoever does not listen any more has closed its connection.
    pub fn send(self) {
        match self {
            Self::Asked(to, response) => drop(to.send(Ok(response))),
            Self::Produced(to, produced) => drop(to.send(Ok(produced))),
            Self::Deleted(to, deleted) => drop(to.send(Ok(deleted))),
            Self::Marked(to, marked) => drop(to.send(Ok(marked))),
            Self::Installed(to) => drop(to.send(Ok(Cleaned))),
        }
    }

    pub fn refuse(self, reason: &Unavailable) {
        match self {
            Self::Asked(to, _) => drop(to.send(Err(reason.clone()))),
            Self::Produced(to, _) => drop(to.send(Err(reason.clone()))),
            Self::Deleted(to, _) => drop(to.send(Err(reason.clone()))),
            Self::Marked(to, _) => drop(to.send(Err(reason.clone()))),
            Self::Installed(to) => drop(to.send(Err(reason.clone()))),
        }
    }
}

/// All that becomes true with one commit.
#[derive(Default)]
pub struct Held {
    pub replies: Vec<Reply>,
    /// Partitions with new data, or that are gone.
    pub touched: Vec<PartitionId>,
    pub changes: Vec<Change>,
    pub rules: Vec<RuleChange>,
    pub credentials: Vec<CredentialChange>,
    /// The commit holds a snapshot of the state, so what is below the one before, which is here, may go.
    pub snapshot: Option<Offset>,
}
