//! Which batches a read_committed reader skips (KIP-98).

use bytes::Bytes;
use headwater_wire::{BatchHeader, batch};

/// Transactions that one answer names as aborted. Like real clients, each answer is read by its own list: a marker
/// may be among what is refused, and hides nothing behind it.
#[derive(Debug)]
pub struct Aborted {
    /// Producer and first offset of transactions not reached yet.
    ahead: Vec<(i64, i64)>,
    inside: Vec<i64>,
}

impl Aborted {
    /// By producer and first offset.
    pub fn listed(listed: &[(i64, i64)]) -> Self {
        Self { ahead: listed.to_vec(), inside: Vec::new() }
    }

    pub fn hides(&mut self, header: &BatchHeader, one: &Bytes) -> bool {
        if !header.has_producer() {
            return false;
        }
        let last = header.last_offset();
        let reached = self.ahead.iter().filter(|(_, first)| *first <= last).map(|(producer, _)| *producer);
        self.inside.extend(reached);
        self.ahead.retain(|(_, first)| *first > last);
        if header.is_control() {
            if batch::marker_is_commit(one) == Some(false) {
                self.inside.retain(|producer| *producer != header.producer_id);
            }
            return true;
        }
        header.is_transactional() && self.inside.contains(&header.producer_id)
    }
}
