//! What is told of a mirror, and who syncs one side while the other is synced.

use std::io;
use std::sync::atomic::AtomicU64;

/// A sync of one side, to be done while the other is synced.
pub type Work = Box<dyn FnOnce() -> io::Result<()> + Send>;
/// Waits for what was begun.
pub type Waiting = Box<dyn FnOnce() -> io::Result<()>>;

/// Who does one of two things that may happen at once.
pub trait Beside: Send + Sync + 'static {
    fn begin(&self, work: Work) -> Waiting;
}

/// One after the other.
pub struct InTurn;

impl Beside for InTurn {
    fn begin(&self, work: Work) -> Waiting {
        work
    }
}

/// What is mirrored at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// There is no mirror.
    Single,
    /// Both sides hold everything.
    Both,
    /// One side is being filled from the other.
    Filling { side: String, files_left: usize },
    /// One side is not written any more, until it comes back.
    Lost { side: String, reason: String },
}

/// What was done about damage, for whoever watches it.
#[derive(Debug, Default)]
pub struct MirrorActivity {
    /// Damaged copies that were written again from the other side.
    pub repaired: AtomicU64,
    /// Damaged copies that could not be written; the other side is read.
    pub unwritable: AtomicU64,
    /// Places that are damaged on both sides.
    pub beyond_repair: AtomicU64,
    pub files_filled: AtomicU64,
    pub bytes_filled: AtomicU64,
}
