//! Where a producer's transaction is; what may be sent depends on it, so it lives under the
//! accumulator's lock.

use std::sync::Arc;

use crate::ClientError;

/// How the coordinator hears of what a transaction writes; one of them for the whole of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Protocol {
    /// Partitions and groups are added before they are written to; an epoch lasts for many transactions (KIP-98).
    #[default]
    V1,
    /// What is written is added by the broker, and every end brings the next epoch (KIP-890).
    V2,
}

impl Protocol {
    /// By the finalized level of `transaction.version`.
    pub(super) fn of(level: i16) -> Self {
        if level >= 2 { Self::V2 } else { Self::V1 }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// The producer has no transactional id.
    Never,
    Ready,
    Open,
    Ending,
    Failed(Arc<ClientError>),
    Fenced(ClientError),
}

#[derive(Debug)]
pub(crate) struct Transaction {
    pub(super) phase: Phase,
    /// Chosen at its begin.
    pub(crate) protocol: Protocol,
    /// The present epoch has been used by the first protocol: what it left behind must not count for the second.
    pub(super) used_by_v1: bool,
    /// Partitions to be added before they are written to.
    pub(crate) joining: Vec<(Arc<str>, i32)>,
    /// Additions under way.
    pub(crate) asking: bool,
    /// The coordinator may know of the transaction.
    pub(crate) begun: bool,
    /// Sequences have a gap: the end must bring a new epoch.
    pub(crate) renew: bool,
    /// A commit was asked for, and whether it was carried out is not known.
    pub(super) uncertain: bool,
    /// The coordinator has ended it, by an abort or (`true`) by a commit that was carried out unheard; a new epoch may
    /// still be wanted.
    pub(super) over: Option<bool>,
}

impl Transaction {
    pub(crate) fn new(transactional: bool) -> Self {
        let phase = if transactional { Phase::Ready } else { Phase::Never };
        Self {
            phase,
            protocol: Protocol::V1,
            used_by_v1: false,
            joining: Vec::new(),
            asking: false,
            begun: false,
            renew: false,
            uncertain: false,
            over: None,
        }
    }

    /// Whether a new one may begin.
    pub(super) fn check_begin(&self) -> Result<(), ClientError> {
        match self.phase {
            Phase::Never => Err(ClientError::State("this producer has no transactional id")),
            Phase::Open => Err(ClientError::State("a transaction is open already: commit or abort it first")),
            Phase::Ending => {
                Err(ClientError::State("the last transaction is not ended: commit or abort it again"))
            }
            Phase::Failed(_) | Phase::Fenced(_) => self.failure().map_or(Ok(()), Err),
            Phase::Ready => Ok(()),
        }
    }

    /// Whether a transaction of this protocol needs an epoch that the first protocol has not used.
    pub(super) fn needs_new_epoch(&self, protocol: Protocol) -> bool {
        protocol == Protocol::V2 && self.used_by_v1
    }

    pub(crate) fn open(&mut self, protocol: Protocol) {
        (self.phase, self.protocol) = (Phase::Open, protocol);
    }

    /// Its end is known.
    pub(crate) fn close(&mut self) {
        *self = Self { used_by_v1: self.used_by_v1, ..Self::new(true) };
    }

    /// The producer has another epoch from here on.
    pub(crate) fn renewed(&mut self) {
        self.used_by_v1 = false;
    }

    /// The coordinator is about to hear of the transaction.
    pub(crate) fn begins(&mut self) {
        self.begun = true;
        self.used_by_v1 |= self.protocol == Protocol::V1;
    }

    pub(crate) fn is_transactional(&self) -> bool {
        !matches!(self.phase, Phase::Never)
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    pub(crate) fn is_failed(&self) -> bool {
        matches!(self.phase, Phase::Failed(_) | Phase::Fenced(_))
    }

    /// What every call is answered with once the transaction has failed.
    pub(crate) fn failure(&self) -> Option<ClientError> {
        match &self.phase {
            Phase::Failed(error) => Some(ClientError::Abortable(Arc::clone(error))),
            Phase::Fenced(error) => Some(error.clone()),
            _ => None,
        }
    }

    pub(crate) fn check_send(&self) -> Result<(), ClientError> {
        match &self.phase {
            Phase::Never | Phase::Open => Ok(()),
            Phase::Ready => Err(ClientError::State("no transaction is open: begin one before sending")),
            Phase::Ending => Err(ClientError::State("the transaction is being ended: nothing can be sent")),
            Phase::Failed(_) | Phase::Fenced(_) => self.failure().map_or(Ok(()), Err),
        }
    }

    /// A partition is about to be written to for the first time. Whether it must be added before that.
    pub(crate) fn join(&mut self, topic: &Arc<str>, partition: i32) -> bool {
        if self.protocol == Protocol::V1 {
            self.joining.push((Arc::clone(topic), partition));
        }
        self.protocol == Protocol::V1
    }

    /// Partitions to be added now, if no addition is under way.
    pub(crate) fn ask(&mut self) -> Vec<(Arc<str>, i32)> {
        if self.asking || self.joining.is_empty() || self.is_failed() {
            return Vec::new();
        }
        self.asking = true;
        self.begins();
        std::mem::take(&mut self.joining)
    }

    /// The first failure counts; being fenced is for good.
    pub(crate) fn fail(&mut self, error: ClientError, renew: bool) {
        self.renew |= renew;
        match (&self.phase, error.is_fenced()) {
            (Phase::Never | Phase::Fenced(_), _) => {}
            (_, true) => self.phase = Phase::Fenced(error),
            (Phase::Failed(_), false) => {}
            (_, false) => self.phase = Phase::Failed(Arc::new(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use headwater_wire::ErrorCode;

    use super::*;

    fn opened(protocol: Protocol) -> Transaction {
        let mut transaction = Transaction::new(true);
        transaction.check_begin().unwrap();
        transaction.open(protocol);
        transaction
    }

    fn refused(code: ErrorCode) -> ClientError {
        ClientError::kafka("try", code.code(), None)
    }

    #[test]
    fn the_second_protocol_is_spoken_from_level_two_on() {
        let spoken = [0, 1, 2, 3].map(Protocol::of);
        assert_eq!(spoken, [Protocol::V1, Protocol::V1, Protocol::V2, Protocol::V2]);
    }

    #[test]
    fn partitions_are_asked_for_under_the_first_protocol_only() {
        let topic = Arc::from("t");
        let mut first = opened(Protocol::V1);
        assert!(first.join(&topic, 3));
        assert!(!first.begun);
        assert_eq!(first.ask(), [(Arc::clone(&topic), 3)]);
        assert!(first.begun && first.asking && first.ask().is_empty());
        let mut second = opened(Protocol::V2);
        assert!(!second.join(&topic, 3));
        assert!(second.ask().is_empty() && !second.begun, "nothing is sent yet");
    }

    #[test]
    fn the_second_protocol_needs_an_epoch_that_the_first_has_not_used() {
        let mut transaction = opened(Protocol::V1);
        transaction.close();
        assert!(!transaction.needs_new_epoch(Protocol::V2), "nothing was asked for");
        transaction.open(Protocol::V1);
        transaction.begins();
        transaction.close();
        assert!(transaction.needs_new_epoch(Protocol::V2) && !transaction.needs_new_epoch(Protocol::V1));
        transaction.renewed();
        assert!(!transaction.needs_new_epoch(Protocol::V2));
        transaction.open(Protocol::V2);
        transaction.begins();
        transaction.close();
        assert!(!transaction.needs_new_epoch(Protocol::V2));
    }

    #[test]
    fn a_transaction_that_is_closed_leaves_nothing_to_the_next() {
        let mut transaction = opened(Protocol::V2);
        transaction.begins();
        transaction.uncertain = true;
        transaction.fail(refused(ErrorCode::TransactionAbortable), true);
        assert!(transaction.check_begin().unwrap_err().is_abortable());
        transaction.close();
        transaction.check_begin().unwrap();
        assert!(!transaction.begun && !transaction.uncertain && !transaction.renew);
    }

    #[test]
    fn the_first_failure_counts_and_a_fence_outlasts_all() {
        let mut transaction = opened(Protocol::V2);
        transaction.fail(refused(ErrorCode::TransactionAbortable), false);
        transaction.fail(refused(ErrorCode::InvalidTxnState), false);
        let code = transaction.failure().and_then(|failure| failure.code());
        assert_eq!(code, Some(ErrorCode::TransactionAbortable));
        transaction.fail(refused(ErrorCode::ProducerFenced), false);
        transaction.fail(refused(ErrorCode::TransactionAbortable), false);
        let failure = transaction.check_send().unwrap_err();
        assert!(failure.is_fenced() && !failure.is_abortable(), "{failure}");
    }
}
