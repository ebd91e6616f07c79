//! What a broker is told at its start: where it listens and writes, and what bounds it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::{
    AddressLimits, AuthorizerConfig, CleanerConfig, CoordinatorSettings, LogSettings, QuotaConfig,
    SecurityConfig,
};

/// Limits and defaults; `..Config::default()` fills in what is not named.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the log lives; created when it does not exist.
    pub data_dir: PathBuf,
    /// The only listener, unless `security` names others; port 0 takes a free one.
    pub listen: SocketAddr,
    /// `HOST:PORT` that clients are told to connect to; `None` for the address they came to.
    pub advertised: Option<String>,
    /// Whether asking for the metadata of an unknown topic creates it.
    pub auto_create_topics: bool,
    /// Partitions of a topic whose creator does not say.
    pub default_partitions: i32,
    /// The longest Produce request.
    pub max_request_bytes: usize,
    /// The longest request of any other kind.
    pub max_other_request_bytes: usize,
    /// What requests and answers of all connections may take together; who comes later waits.
    pub memory_bytes: usize,
    /// Fetch sessions that are kept at once; clients without one name all their partitions each time.
    pub fetch_session_slots: usize,
    /// The most one Fetch returns, whatever it asks for.
    pub max_fetch_bytes: usize,
    /// Further connections are closed as soon as they are accepted.
    pub max_connections: usize,
    /// … and those beyond this number from one address.
    pub max_connections_per_ip: AddressLimits,
    /// With more partitions than this, metrics have sums by topic only.
    pub metrics_partitions: usize,
    /// A connection without requests for so long is closed.
    pub max_idle: Duration,
    /// How long a request that has begun to arrive may take, and a response to be read.
    pub transfer_timeout: Duration,
    pub log: LogSettings,
    pub cleaner: CleanerConfig,
    /// `headwater.cold.store`: URL of a directory or bucket for files that need not be on this disk.
    pub cold_store: Option<String>,
    /// `headwater.cold.local.bytes`: what finished files may take on this disk then.
    pub cold_local_bytes: u64,
    /// `headwater.mirror.dir`: a second directory that holds the same log.
    pub mirror_dir: Option<PathBuf>,
    /// `headwater.mirror.required`: whether writing ends when one of the two directories fails.
    pub mirror_required: bool,
    /// `headwater.mirror.retry.ms`: how soon a directory of the mirror that failed is tried again, first.
    pub mirror_retry: Duration,
    pub coordinator: CoordinatorSettings,
    /// Who may do what; off unless told otherwise.
    pub authorizer: AuthorizerConfig,
    /// `headwater.audit.enable`: whether changes are audited where there is no authorizer, too.
    pub audit: bool,
    pub quota: QuotaConfig,
    /// Listeners other than `listen`, TLS and SASL.
    pub security: SecurityConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("headwater-data"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9092)),
            advertised: None,
            auto_create_topics: true,
            default_partitions: 1,
            max_request_bytes: 100 << 20,
            max_other_request_bytes: 4 << 20,
            memory_bytes: 256 << 20,
            fetch_session_slots: 1000,
            max_fetch_bytes: 55 << 20,
            max_connections: 4096,
            max_connections_per_ip: AddressLimits::default(),
            metrics_partitions: 1000,
            max_idle: Duration::from_secs(600),
            transfer_timeout: Duration::from_secs(60),
            log: LogSettings::default(),
            cleaner: CleanerConfig::default(),
            cold_store: None,
            cold_local_bytes: 8 << 30,
            mirror_dir: None,
            mirror_required: false,
            mirror_retry: Duration::from_secs(5),
            coordinator: CoordinatorSettings::default(),
            authorizer: AuthorizerConfig::default(),
            audit: false,
            quota: QuotaConfig::default(),
            security: SecurityConfig::default(),
        }
    }
}

impl Config {
    /// The only directory of logs, as it is told: tools compare it with the path that they were given.
    pub(crate) fn log_dir(&self) -> String {
        std::path::absolute(&self.data_dir).unwrap_or_else(|_| self.data_dir.clone()).display().to_string()
    }

    pub(crate) fn audits(&self) -> bool {
        self.audit || self.authorizer.enabled
    }

    /// The common memory of requests and answers; the longest request always fits.
    pub(crate) fn memory(&self) -> usize {
        self.memory_bytes.max(self.max_request_bytes)
    }
}
