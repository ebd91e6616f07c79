//! Streams groups (KIP-1071): members of Kafka Streams applications, and the groups as tools see them.
//!
//! What a member is to do is the coordinator's to say; its internal topics are created here, with the client's rights.

mod describe;
mod heartbeat;
mod topology;

pub use describe::describe;
pub use heartbeat::heartbeat;
