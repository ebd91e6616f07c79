//! The log beside a naive model of it, over a disk that crashes; what happens is drawn from a seed.
#![allow(dead_code, unused_imports)] // `planted`, a binary of its own, uses another part of it.

pub mod amid;
mod course;
mod damage;
pub mod forged;
mod look;
pub mod mirror;
mod model;
mod store;
mod work;
mod world;

pub use damage::{
    append_one, commit, damage_one_bit, damage_the_middle, heads_of_newest, lose_commits, markers,
    misplace_indexes,
};
use headwater_log::{PartitionId, Settings};
pub use look::{Visible, assert_named, read_all};
pub use model::{Model, ModelPartition, Sent};
pub use store::Store;
pub use world::{Disks, Mirror, World, attach};

pub const SETTINGS: Settings =
    Settings { segment_bytes: 4096, spares: 1, vital: None, salt: 0, producer_expiration_ms: i64::MAX / 2 };

pub fn id(number: u8) -> PartitionId {
    PartitionId { topic_id: [number / 2; 16], partition: i32::from(number % 2) }
}
