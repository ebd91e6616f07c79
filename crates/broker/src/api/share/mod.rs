//! Share groups (KIP-932): membership, fetching with acknowledgements, administration.
//!
//! What has become of a record is the coordinator's to say; reading logs and waiting for records happen here, as for
//! Fetch. A share session belongs to a connection and ends with it ([`sessions`]).

mod acknowledge;
mod configs;
mod fetch;
mod groups;
mod offsets;
mod poll;
mod read;
mod respond;
mod sessions;

pub use acknowledge::acknowledge;
pub use configs::{alter as alter_configs, describe as describe_configs};
pub use fetch::fetch;
pub use groups::{describe, heartbeat};
pub use offsets::{alter as alter_offsets, delete as delete_offsets, describe as describe_offsets};
pub use sessions::ShareSessions;

use std::net::SocketAddr;

use headwater_coordinator::{Client, Request, Response, ShareRequest, ShareResponse, TopicId};
use headwater_wire::ErrorCode;

use super::{Call, CallError};
use crate::broker::Shared;

impl Call {
    async fn share(&self, request: ShareRequest) -> Result<ShareResponse, CallError> {
        match self.ask(Request::Share(request)).await? {
            Response::Share(response) => Ok(response),
            _ => Err(self.mismatch()),
        }
    }

    /// Whether the client may read a topic that it names by id; one that does not exist is nobody's.
    fn may_read_by_id(&self, id: &TopicId) -> Result<(), ErrorCode> {
        self.shared.catalog.by_id(id).map_or(Ok(()), |topic| self.may_read(&topic))
    }

    fn connection(&self) -> sessions::Connection {
        (self.peer, self.local)
    }
}

/// The connection has ended: so have its share sessions, and what they hold is available again.
pub fn hang_up(shared: &Shared, peer: SocketAddr, local: SocketAddr) {
    for (group_id, member_id) in shared.share_sessions.hang_up((peer, local)) {
        let engine = shared.engine.clone();
        let release = Request::Share(ShareRequest::Release { group_id, member_id });
        // An engine that is gone holds nothing.
        tokio::spawn(async move { drop(engine.ask(Client::default(), release).await) });
    }
}
