//! Which batches a read_committed reader skips (KIP-98).

use bytes::Bytes;
use headwater_wire::{BatchHeader, batch};

/// Transactions that the broker has named as aborted.
#[derive(Debug, Default)]
pub struct Aborted {
    /// Producer and first offset of transactions not reached yet.
    ahead: Vec<(i64, i64)>,
    inside: Vec<i64>,
}

impl Aborted {
    /// What one answer lists; an answer may list again what the one before did.
    pub fn add(&mut self, listed: &[(i64, i64)]) {
        self.ahead.extend_from_slice(listed);
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
