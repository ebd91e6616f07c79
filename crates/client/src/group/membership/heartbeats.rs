//! The heartbeats of a generation, and how it ends.

use std::time::Duration;

use headwater_wire::ErrorCode;
use headwater_wire::messages::HeartbeatRequestData;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Ended, Task};
use crate::ClientError;
use crate::admin::text;
use crate::cluster::CoordinatorOf;

/// Rebalances are learned of by heartbeats: often enough that hand-overs are quick.
const LONGEST_BEAT: Duration = Duration::from_millis(500);

impl Task {
    /// Beats until the generation ends; with `leaving`, a rebalance is known and does not count.
    ///
    /// It ends with the session at the latest, whatever a heartbeat is waiting for then: others have what this member
    /// reads, and it must not read on.
    pub(super) async fn heartbeats(&self, leaving: bool) -> Ended {
        let session = self.config.session_timeout;
        let every = LONGEST_BEAT.min(session / 3);
        // The coordinator counts from when it hears a heartbeat, which is no sooner than it is sent.
        let mut heard = Instant::now();
        let mut failed = None;
        loop {
            sleep_until((Instant::now() + every).min(heard + session)).await;
            let sent = Instant::now();
            let Ok(beat) = timeout_at(heard + session, self.heartbeat(every)).await else {
                let last = failed.as_ref().map(ToString::to_string);
                tracing::warn!(group = self.config.group_id, last, "no heartbeat for a whole session");
                return Ended::Lost;
            };
            let error = match beat {
                Ok(()) => {
                    heard = sent;
                    continue;
                }
                Err(error) => error,
            };
            match error.code() {
                Some(ErrorCode::RebalanceInProgress) if leaving => heard = sent,
                Some(ErrorCode::RebalanceInProgress) => return Ended::Rebalance,
                Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => return Ended::Lost,
                _ if error.is_retriable() => {
                    self.client.forget_coordinator(CoordinatorOf::Group, &self.config.group_id);
                    tracing::debug!(group = self.config.group_id, %error, "heartbeat failed; trying again");
                    failed = Some(error);
                }
                _ => return Ended::Fatal(error),
            }
        }
    }

    async fn heartbeat(&self, every: Duration) -> Result<(), ClientError> {
        let config = &self.config;
        let request = HeartbeatRequestData::default()
            .with_group_id(text(&config.group_id))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(config.instance_id.as_deref().map(text));
        // A coordinator that stands still must not cost the session: there is time for another one.
        let timeout = (config.session_timeout / 3).min(self.client.request_timeout()).max(every);
        let answer = self.call(self.beat_lane, &request, timeout).await?;
        ClientError::check(answer.error_code, None, || format!("heartbeat in group {}", config.group_id))
    }
}
