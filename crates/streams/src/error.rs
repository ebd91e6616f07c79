//! What can go wrong when a topology is built and when a task runs.
//!
//! A [`TopologyError`] is the author's mistake and names the nodes and topics involved; a [`TaskError`] stops one task.

use headwater_model::Offset;

use crate::serdes::SerdeError;
use crate::store::StoreError;

/// A topology that cannot run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    #[error("add {kind} {name:?}: the name is taken; give one of the two another name")]
    Duplicate { kind: &'static str, name: String },
    #[error(
        "read topic {topic:?} twice, in {first:?} and in {second:?}: call stream() once and use its result twice"
    )]
    TopicReadTwice { topic: String, first: String, second: String },
    #[error("connect node {node:?} to store {store:?}: no such store; add it with add_store() first")]
    UnknownStore { node: String, store: String },
    #[error(
        "find topic {topic:?}, which {node:?} reads: it does not exist; create it before the application starts"
    )]
    UnknownTopic { topic: String, node: String },
    #[error(
        "build application {application_id:?}: no node reads a topic; call stream(), table() or global_table()"
    )]
    NoSource { application_id: String },
    #[error("build {node:?}: no serde for its {what}; name one with {option}")]
    NoSerde { node: String, what: &'static str, option: &'static str },
    #[error(
        "read the topics of {node:?}: none was chosen; were those that exist given to existing_topics()?"
    )]
    NoTopic { node: String },
    #[error("use {given:?}: {reason}")]
    InvalidName { given: String, reason: &'static str },
    #[error("set up {node:?}: {reason}")]
    InvalidWindow { node: String, reason: String },
    #[error("keep store {store:?} in a database: {reason}")]
    External { store: String, reason: String },
    #[error(
        "join or group in {node:?}: topics {first:?} ({first_partitions} partitions) and {second:?} ({second_partitions} \
         partitions) are not copartitioned, so that one key is in several tasks; give both the same number, or repartition() \
         one of them before they meet"
    )]
    NotCopartitioned {
        node: String,
        first: String,
        first_partitions: i32,
        second: String,
        second_partitions: i32,
    },
    #[error(
        "count the partitions of repartition topic {topic:?}: it feeds itself only; set Repartitioned::partitions"
    )]
    UnknownPartitions { topic: String },
}

/// What stops a task.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TaskError {
    #[error(
        "decode the {what} of {topic}/{partition} offset {offset} in {node:?}; set a DeserializationHandler to let the rest flow"
    )]
    Deserialize {
        node: String,
        what: &'static str,
        topic: String,
        partition: i32,
        offset: Offset,
        source: SerdeError,
    },
    #[error("encode the {what} of a record for {target:?} in {node:?}")]
    Serialize { node: String, what: &'static str, target: String, source: SerdeError },
    #[error(
        "write a record to {target:?} in {node:?}: {reason}; set a ProductionHandler to go on without it"
    )]
    Unwritable { node: String, target: String, reason: String },
    #[error("use store {store:?}")]
    Store { store: String, source: StoreError },
    #[error(
        "decode an entry of store {store:?}; its serde or its directory has changed, so rebuild it from its changelog"
    )]
    StoredValue { store: String, source: SerdeError },
    #[error("create task {task}: no backend was given for store {store:?}")]
    NoBackend { task: String, store: String },
    #[error("create task {task}: its topics do not fit")]
    Partitions { task: String, source: TopologyError },
    #[error("find store {store:?} in task {task}")]
    UnknownStore { task: String, store: String },
    #[error("find input {input} in task {task}")]
    UnknownInput { task: String, input: String },
    #[error("find subtopology {subtopology}; this topology has {count}")]
    UnknownSubtopology { subtopology: i32, count: usize },
    #[error("run processor {node:?}: {message}")]
    Processor { node: String, message: String },
    /// Not a failure: the shell drops the task, opens it again and calls `Task::set_aside`.
    #[error(
        "set {topic}/{partition} offset {offset} aside, on which {node:?} failed after it had written to a store: {message}"
    )]
    SetAside { topic: String, partition: i32, offset: Offset, node: String, message: String },
    #[error(
        "hold {topic}/{partition} offset {offset} in quarantine: it has {max_keys} keys or {max_bytes} bytes; release what is in \
         it, raise Quarantine::max_keys or max_bytes, or let it go on with WhenFull::DeadLetter"
    )]
    QuarantineFull { topic: String, partition: i32, offset: Offset, max_keys: usize, max_bytes: u64 },
}
