//! What keeps an application from starting or makes it stop, and what to do about it.

use std::net::SocketAddr;

use headwater_client::ClientError;
use headwater_streams::{StoreError, TaskError, TopologyError};

use crate::access::HttpAccessError;
use crate::config::ConfigError;
use crate::external::ExternalError;
use crate::state::StateError;

/// Why an application did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("connect application {application_id:?} to {bootstrap}: {source}")]
    Connect { application_id: String, bootstrap: String, source: ClientError },
    #[error(
        "start application {application_id:?}: it reads {}, which {bootstrap} does not have; create it first (headwater topic create {first}), or start the service that writes it",
        topics.join(", ")
    )]
    MissingTopics { application_id: String, bootstrap: String, topics: Vec<String>, first: String },
    #[error(transparent)]
    Topology(#[from] TopologyError),
    #[error(
        "run topology {topology:?} as application {application_id:?}: the two names must be equal; pass the same to StreamsBuilder::new and AppConfig"
    )]
    ApplicationId { topology: String, application_id: String },
    #[error(
        "use internal topic {topic:?}: it has {found} partitions, but the topology needs {expected}; if its state may be rebuilt, stop every instance, delete the topic (headwater topic delete {topic}) and start again"
    )]
    InternalTopic { topic: String, found: i32, expected: i32 },
    #[error("prepare topic {topic:?}: {source}")]
    PrepareTopic { topic: String, source: ClientError },
    #[error(transparent)]
    State(#[from] StateError),
    #[error("serve HTTP on {address}: {source}; free the port, or choose another with HEADWATER_HTTP")]
    Http { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    HttpAccess(#[from] HttpAccessError),
    #[error(
        "join group {application_id:?} by the {wanted} protocol: {members} members are in it by the {found} protocol, and a group has one; stop all instances, wait until the group is empty (headwater group describe {application_id}; a killed one is in it until its session ends), and start them with the same group.protocol: there is no change while it runs"
    )]
    OtherProtocol { application_id: String, wanted: &'static str, found: String, members: String },
    #[error("{what}: {source}")]
    Client { what: &'static str, source: ClientError },
    #[error(
        "another process runs as instance {instance:?} of {application_id:?} and has taken over: this one stops, its open transaction is aborted ({source})"
    )]
    Fenced { application_id: String, instance: String, source: ClientError },
    #[error("task {task}: {source}")]
    Task { task: String, source: TaskError },
    #[error("keep global table {store:?} current: {source}")]
    Global { store: String, source: TaskError },
    #[error(
        "commit task {task} to its stores: {source}; free disk space or repair the directory, then start again: nothing is lost"
    )]
    Store { task: String, source: StoreError },
    #[error("{0}")]
    External(ExternalError),
    #[error("start a processing thread: {0}")]
    Thread(std::io::Error),
    #[error("listen for SIGTERM and SIGINT: {0}")]
    Signal(std::io::Error),
    #[error("a processing thread panicked: {0}")]
    Panic(String),
    #[error("killed by a test at {0:?}")]
    Killed(crate::fault::FaultPoint),
}

impl AppError {
    pub(crate) fn client(what: &'static str) -> impl FnOnce(ClientError) -> Self {
        move |source| Self::Client { what, source }
    }
}
