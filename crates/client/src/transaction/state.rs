//! Where a producer's transaction is; what may be sent depends on it, so it lives under the
//! accumulator's lock.

use std::sync::Arc;

use crate::ClientError;

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
    /// Partitions to be added before they are written to.
    pub(crate) joining: Vec<(Arc<str>, i32)>,
    /// Additions under way.
    pub(crate) asking: bool,
    /// The coordinator may know of the transaction.
    pub(crate) begun: bool,
    /// Sequences have a gap: the end must bring a new epoch.
    pub(crate) renew: bool,
    /// A commit was sent, and its answer is not known.
    pub(super) uncertain: bool,
}

impl Transaction {
    pub(crate) fn new(transactional: bool) -> Self {
        let phase = if transactional { Phase::Ready } else { Phase::Never };
        Self { phase, joining: Vec::new(), asking: false, begun: false, renew: false, uncertain: false }
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

    /// Partitions to be added now, if no addition is under way.
    pub(crate) fn ask(&mut self) -> Vec<(Arc<str>, i32)> {
        if self.asking || self.joining.is_empty() || self.is_failed() {
            return Vec::new();
        }
        self.asking = true;
        self.begun = true;
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
