//! Places where a test may let an application die as if the process had been killed.

use std::fmt;
use std::sync::Arc;

/// A moment in the life of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultPoint {
    /// Records were taken but nothing was sent.
    BeforeSend,
    /// Outputs were handed to the producer.
    AfterSend,
    /// Everything was acknowledged, and offsets were added to the transaction.
    BeforeCommit,
    /// The broker committed; the stores have not heard of it.
    BeforeStores,
    /// The stores have it, too.
    AfterStores,
}

/// Decides at each point whether to die there.
#[derive(Clone)]
pub struct FaultHook(Arc<dyn Fn(FaultPoint) -> bool + Send + Sync>);

impl FaultHook {
    pub fn new(dies: impl Fn(FaultPoint) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(dies))
    }

    pub(crate) fn dies(&self, point: FaultPoint) -> bool {
        (self.0)(point)
    }
}

impl fmt::Debug for FaultHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultHook")
    }
}
