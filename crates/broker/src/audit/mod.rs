//! The audit stream `_headwater.audit`: who was denied what, and who changed rules, credentials, topics or their
//! configuration. Never what records hold.
//!
//! Owns the way from a request to the stream. Whoever tells hands over and goes on: what does not fit into the
//! channel is counted and lost, so that auditing can neither hold up nor fail a request.

mod entry;
mod writer;

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub use entry::{AUTHENTICATE, Entry, LONGEST_CLIENT, LONGEST_NAME, Subject};
use writer::Writer;

use crate::broker::Shared;

/// Only the broker writes to it.
pub const TOPIC: &str = "_headwater.audit";
/// What may wait to be written.
const WAITING: usize = 8192;
/// Of these, what only changes may take: anybody can be refused as often as it likes.
const FOR_CHANGES: usize = 1024;

/// The side of those who tell.
pub struct Audit {
    /// `None` where nothing is audited.
    entries: Option<mpsc::Sender<Entry>>,
    pub denied: AtomicU64,
    pub lost: AtomicU64,
}

impl Audit {
    /// The other end of the channel belongs to [`start`].
    pub fn new(enabled: bool) -> (Self, mpsc::Receiver<Entry>) {
        let (entries, waiting) = mpsc::channel(WAITING);
        let entries = enabled.then_some(entries);
        (Self { entries, denied: AtomicU64::new(0), lost: AtomicU64::new(0) }, waiting)
    }

    pub fn is_on(&self) -> bool {
        self.entries.is_some()
    }

    pub fn tell(&self, entry: Entry) {
        if !entry.allowed {
            self.denied.fetch_add(1, Ordering::Relaxed);
        }
        let Some(entries) = &self.entries else { return };
        let has_room = entry.allowed || entries.capacity() > FOR_CHANGES;
        if !has_room || entries.try_send(entry).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The task that writes the stream.
pub struct AuditTask {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Writes until stopped.
pub fn start(shared: &Shared, entries: mpsc::Receiver<Entry>) -> AuditTask {
    let (stop, stopped) = oneshot::channel();
    let writer = Writer::new(shared.engine.clone(), shared.catalog.clone());
    AuditTask { stop, task: tokio::spawn(writer.run(entries, stopped)) }
}

impl AuditTask {
    /// Returns when all that was told is written.
    pub async fn stop(self) {
        // A task that has ended does not listen.
        let _ = self.stop.send(());
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the audit stream ended badly");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use headwater_model::acl::ResourceType;

    use super::*;

    #[test]
    fn refusals_leave_room_for_changes() {
        let (audit, mut waiting) = Audit::new(true);
        let told = |allowed| {
            let subject = Subject {
                principal: Arc::default(),
                host: IpAddr::V4(Ipv4Addr::LOCALHOST),
                client_id: String::new(),
                api: "Metadata",
                operation: "DESCRIBE",
                resource: ResourceType::Topic,
                name: String::new(),
            };
            audit.tell(Entry { time: 0, subject, allowed, detail: None });
        };
        (0..WAITING).for_each(|_| told(false));
        assert_eq!(audit.lost.load(Ordering::Relaxed), FOR_CHANGES as u64);
        told(true);
        assert_eq!(audit.lost.load(Ordering::Relaxed), FOR_CHANGES as u64);
        let mut last = None;
        while let Ok(entry) = waiting.try_recv() {
            last = Some(entry.allowed);
        }
        assert_eq!(last, Some(true));
    }
}
