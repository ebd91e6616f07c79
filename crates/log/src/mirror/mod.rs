//! One log on two disks.
//!
//! [`MirroredDisk`] is a [`crate::Disk`] made of two: what is written goes to both, and a write or sync is
//! done when both sides have done it, or when the side that failed is durably marked as left behind on the
//! other. What is read comes from one side, and from the other where that is not what was written; the
//! damaged copy is then written again. A side that is behind is filled while the log serves.
//!
//! Invariant: whatever was acknowledged is on every side that a later start may believe.

mod disk;
mod file;
mod fill;
mod handles;
mod heal;
mod judge;
mod marker;
mod mending;
mod open;
mod pair;
mod rejoin;
mod standing;

pub use disk::MirroredDisk;
pub use file::{Mended, MirroredFile};
pub use fill::Filled;
pub use judge::MirrorError;
pub use open::{Mirroring, Side};
pub use standing::{Beside, InTurn, MirrorActivity, Standing, Waiting, Work};
