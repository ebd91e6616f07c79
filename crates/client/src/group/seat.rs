//! What the caller holds of the task behind a member of the consumer or the streams protocol: its news, how the member
//! stands, and the word that what was revoked is let go of. Dropping it ends the task.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use super::membership::News;
use super::{GroupConfig, Lease};
use crate::cluster::Lane;
use crate::{Client, ClientError};

/// What the member is to its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    /// `None` before it has joined; the last one when it is out.
    pub(super) epoch: Option<i32>,
    pub(super) is_member: bool,
}

pub(super) struct Seat {
    pub(super) client: Client,
    pub(super) config: GroupConfig,
    pub(super) lane: Lane,
    pub(super) member_id: String,
    lease: Lease,
    news: mpsc::UnboundedReceiver<News>,
    released: mpsc::UnboundedSender<()>,
    standing: watch::Receiver<Standing>,
    hurry: Arc<Notify>,
    task: JoinHandle<()>,
}

/// The task's side of it.
pub(super) struct Post {
    pub(super) lane: Lane,
    pub(super) news: mpsc::UnboundedSender<News>,
    pub(super) released: mpsc::UnboundedReceiver<()>,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) hurry: Arc<Notify>,
}

impl Seat {
    /// Starts the task.
    pub(super) fn new<F>(
        client: Client,
        config: GroupConfig,
        member_id: String,
        lease: Lease,
        task: impl FnOnce(Post) -> F,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (to_news, news) = mpsc::unbounded_channel();
        let (released, to_released) = mpsc::unbounded_channel();
        let (to_standing, standing) = watch::channel(Standing { epoch: None, is_member: false });
        let hurry = Arc::new(Notify::new());
        let lane = client.new_lane();
        let post = Post {
            lane,
            news: to_news,
            released: to_released,
            standing: to_standing,
            hurry: Arc::clone(&hurry),
        };
        let task = tokio::spawn(task(post));
        Self { client, config, lane, member_id, lease, news, released, standing, hurry, task }
    }

    /// The caller has let go of what it was told to.
    pub(super) fn release(&self) {
        // A task that has ended has nothing to wait for.
        let _ = self.released.send(());
    }

    /// May be cancelled without losing anything.
    pub(super) async fn news(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            None => News::Failed(ClientError::State("the group membership has ended")),
        }
    }

    /// Member id and epoch, once it has joined.
    pub(super) fn standing(&self) -> Option<(String, i32)> {
        self.standing.borrow().epoch.map(|epoch| (self.member_id.clone(), epoch))
    }

    /// Asks for the member's epoch after this one; whether it came before the patience ended.
    pub(super) async fn passes(&mut self, epoch: i32, patience: Duration) -> bool {
        self.hurry.notify_one();
        let passed = self.standing.wait_for(|standing| !standing.is_member || standing.epoch != Some(epoch));
        matches!(tokio::time::timeout(patience, passed).await, Ok(Ok(standing)) if standing.is_member)
    }

    /// No heartbeat follows, and nothing is the member's for sure.
    pub(super) fn end(&self) {
        self.task.abort();
        self.lease.end();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.end();
        self.client.close_lane(self.lane);
    }
}
