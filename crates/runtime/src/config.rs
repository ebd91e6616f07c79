//! How an application runs: where the broker is, where state lives, how often and how safely it commits.
//!
//! Values come from the manifest's `[runtime]` table; environment variables win over it.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use headwater_client::Security;
use headwater_control::Manifest;
pub use headwater_control::{GroupProtocol, Guarantee};

use crate::access::HttpAccess;
use crate::external::External;
use crate::fault::FaultHook;
use crate::snapshot::SnapshotConfig;

/// The address a broker listens on unless told otherwise.
const DEFAULT_BOOTSTRAP: &str = "127.0.0.1:9092";
const DEFAULT_REGISTRY: &str = "http://127.0.0.1:8081";
const DEFAULT_STATE_DIR: &str = "state";

/// Where stores keep their committed entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StateStore {
    /// Under `state_dir`; an unclean stop restores only the tail of the changelogs.
    #[default]
    Disk,
    /// In memory: every start restores all of the changelogs.
    Memory,
}

/// Settings of a [`crate::StreamsApp`].
#[derive(Debug, Clone)]
pub struct AppConfig {
    /// `host:port` of any broker of the cluster.
    pub bootstrap: String,
    /// TLS and SASL of the connections to it, and to the registry.
    pub security: Security,
    /// Consumer group and prefix of internal topics; must equal the topology's.
    pub application_id: String,
    pub client_id: String,
    /// URL of the schema registry, for serdes that need one.
    pub registry: String,
    /// State lives in `<state_dir>/<application_id>/`, locked by one process.
    pub state_dir: PathBuf,
    pub state_store: StateStore,
    /// Rows that all stores together keep in memory between commits, in bytes (default 128 MiB): encoded, with about 30 bytes
    /// for each. What versioned tables keep is limited by their number of entries alone.
    pub record_cache_bytes: u64,
    /// Block cache of all stores together, in bytes.
    pub cache_bytes: u64,
    /// Changes of all stores together that are not on disk yet, in bytes (default 64 MiB), and once more so much while they are
    /// being written.
    pub write_buffer_bytes: u64,
    /// How long committed changes of a busy store may wait in memory to be written to disk together, within
    /// `write_buffer_bytes` (default 3 s). A process that is killed restores so much more from the changelog; queries see
    /// what is written. A store that changes little is written with every commit.
    pub store_write_delay: Duration,
    /// Fewer changes than this, of all stores together, do not wait.
    #[doc(hidden)]
    pub store_write_at_once: usize,
    /// From so many changes of a store on, a write makes a table of its own.
    #[doc(hidden)]
    pub store_table_from: usize,
    /// Time between commits (default 100 ms).
    pub commit_interval: Duration,
    /// Processing threads, each with its own group member and producer (default 1).
    pub threads: usize,
    /// Where queries, health and metrics are answered; nothing is served without it. Port 0 takes a free one.
    pub http: Option<SocketAddr>,
    /// TLS of that address, who may ask there and how they say who they are (default: nobody is asked, which needs an address
    /// of this machine).
    pub http_access: HttpAccess,
    /// Kafka Streams' `application.server`: `host:port` at which the other instances reach `http`; by default the address that
    /// it listens on, if that is one.
    pub application_server: Option<String>,
    /// Whether whoever reaches that address may also release what is in quarantine (default: no). Where it is asked who they
    /// are, `headwater.http.commands` says who may.
    pub http_commands: bool,
    pub guarantee: Guarantee,
    /// Kafka Streams' `group.protocol` (default: classic). Under the streams protocol the broker decides about standby tasks and
    /// sessions: `num_standby_replicas`, `session_timeout` and what is about warm-ups count for nothing.
    pub group_protocol: GroupProtocol,
    /// Of internal topics; -1 takes the broker's default.
    pub replication: i16,
    /// How long a silent member keeps its tasks.
    pub session_timeout: Duration,
    /// How long a rebalance waits for members that are still processing.
    pub rebalance_timeout: Duration,
    /// After this an open transaction of a vanished process is aborted by the broker.
    pub transaction_timeout: Duration,
    /// Kafka Streams' `num.standby.replicas`: so many other instances keep a copy of the stores of each task, and take it
    /// over without restoring all of it (default 0).
    pub num_standby_replicas: usize,
    /// `acceptable.recovery.lag`: an instance that lacks at most so many changelog records of a task may take it over at once
    /// (default 10 000).
    pub acceptable_recovery_lag: u64,
    /// `max.warmup.replicas`: how many tasks at once, in the whole group, get a copy where they are to move (default 2).
    pub max_warmup_replicas: usize,
    /// `probing.rebalance.interval.ms`: how long after a rebalance that left tasks where they were, for want of state
    /// elsewhere, the group looks again (default 10 min).
    pub probing_rebalance_interval: Duration,
    /// `state.cleanup.delay.ms`: how long the stores of a task that has moved to another instance are kept, so that it finds them
    /// if it comes back; then they are removed (default 10 min).
    pub state_cleanup_delay: Duration,
    /// `state.cleanup.dir.max.age.ms` (KIP-1259): stores of tasks that nothing was written to for longer are removed when the process
    /// starts (default: none are).
    pub state_cleanup_dir_max_age: Option<Duration>,
    /// Where snapshots of the stores are put and found (default: nowhere).
    pub snapshots: Option<SnapshotConfig>,
    /// The database of stores that were built with `Materialized::external` (default: none).
    pub external: Option<External>,
    /// Records that are ahead of this process's clock by more than this are counted, and warned of (default 10 s).
    pub clock_skew_bound: Duration,
    /// Records buffered per input partition before its fetching pauses.
    pub max_buffered: usize,
    /// Starts as after [`StreamsApp::pause`](crate::StreamsApp::pause) (default: no).
    pub start_paused: bool,
    /// How often a task may fail within a minute before the application ends (default 3): each time it is opened again from what is
    /// committed, after a pause that grows to two seconds. Kafka Streams ends with the first failure (1), or, where its
    /// `StreamsUncaughtExceptionHandler` replaces threads, with none (`usize::MAX`). A panic ends it in any case.
    pub task_attempts: usize,
    /// How often the topics that are read are looked at (default 5 min; `metadata.max.age.ms`): partitions that they get are told,
    /// and one that is gone twice in a row ends the application.
    pub metadata_max_age: Duration,
    /// Names this process across restarts (static membership, transactional id); by default kept in the state directory.
    pub instance: Option<String>,
    /// Published in the catalog, and the source of output topics' settings.
    pub manifest: Option<Manifest>,
    /// Simulates a crash in tests.
    #[doc(hidden)]
    pub fault: Option<FaultHook>,
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("use {value:?} from {origin}: {reason}")]
pub struct ConfigError {
    pub value: String,
    /// The environment variable or manifest key.
    pub origin: String,
    pub reason: String,
}

impl AppConfig {
    pub fn new(bootstrap: impl Into<String>, application_id: impl Into<String>) -> Self {
        let application_id = application_id.into();
        Self {
            bootstrap: bootstrap.into(),
            client_id: application_id.clone(),
            security: Security::default(),
            application_id,
            registry: DEFAULT_REGISTRY.to_owned(),
            state_dir: PathBuf::from(DEFAULT_STATE_DIR),
            state_store: StateStore::Disk,
            record_cache_bytes: 128 << 20,
            cache_bytes: 16 << 20,
            write_buffer_bytes: 64 << 20,
            store_write_delay: Duration::from_secs(3),
            store_write_at_once: 2_000,
            store_table_from: 5_000,
            commit_interval: Duration::from_millis(100),
            threads: 1,
            http: None,
            http_access: HttpAccess::default(),
            application_server: None,
            http_commands: false,
            guarantee: Guarantee::ExactlyOnce,
            group_protocol: GroupProtocol::Classic,
            replication: -1,
            session_timeout: Duration::from_secs(10),
            rebalance_timeout: Duration::from_secs(60),
            transaction_timeout: Duration::from_secs(10),
            num_standby_replicas: 0,
            acceptable_recovery_lag: 10_000,
            max_warmup_replicas: 2,
            probing_rebalance_interval: Duration::from_secs(600),
            state_cleanup_delay: Duration::from_secs(600),
            state_cleanup_dir_max_age: None,
            snapshots: None,
            external: None,
            clock_skew_bound: Duration::from_secs(10),
            max_buffered: 1000,
            start_paused: false,
            task_attempts: 3,
            metadata_max_age: Duration::from_secs(300),
            instance: None,
            manifest: None,
            fault: None,
        }
    }

    /// Refuses settings that cannot work together.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.max_warmup_replicas == 0 {
            return Err(ConfigError {
                value: "0".to_owned(),
                origin: "max_warmup_replicas".to_owned(),
                reason: "tasks could never move to an instance without state; use 1 or more".to_owned(),
            });
        }
        let (interval, timeout) = (self.commit_interval, self.transaction_timeout);
        if self.guarantee == Guarantee::ExactlyOnce && interval >= timeout {
            return Err(ConfigError {
                value: format!("{interval:?}"),
                origin: "[runtime] commit_interval_ms".to_owned(),
                reason: format!(
                    "a transaction is open that long, and the broker aborts it after {timeout:?}; use less"
                ),
            });
        }
        self.check_application_server()
    }

    fn check_application_server(&self) -> Result<(), ConfigError> {
        let Some(server) = &self.application_server else { return Ok(()) };
        let port =
            server.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
        let reason = match port {
            Some(Ok(port)) if port > 0 && self.http.is_some() => return Ok(()),
            Some(Ok(port)) if port > 0 => "nothing is answered there: set http, too",
            _ => "it is not an address that other instances can ask; use host:port",
        };
        Err(ConfigError {
            value: server.clone(),
            origin: "application_server".to_owned(),
            reason: reason.to_owned(),
        })
    }

    /// What each thread may take of `write_buffer_bytes`: the process takes no more.
    pub(crate) fn write_buffer_share(&self) -> u64 {
        self.write_buffer_bytes / self.threads.max(1) as u64
    }

    /// The manifest's settings, overridden by `HEADWATER_BOOTSTRAP`, `HEADWATER_REGISTRY`, `HEADWATER_STATE_DIR`,
    /// `HEADWATER_HTTP`, `HEADWATER_HTTP_CONFIG`, `HEADWATER_APPLICATION_SERVER`, `HEADWATER_GROUP_PROTOCOL`, `HEADWATER_SNAPSHOTS` and `HEADWATER_INSTANCE`; TLS and SASL come from the file that `HEADWATER_COMMAND_CONFIG` or
    /// `[runtime] command_config` names.
    pub fn from_manifest(manifest: &Manifest) -> Result<Self, ConfigError> {
        Self::from_manifest_and(manifest, &|name| std::env::var(name).ok())
    }

    /// As [`AppConfig::from_manifest`], with the environment as an argument.
    pub fn from_manifest_and(
        manifest: &Manifest,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let settings = &manifest.runtime;
        let pick = |variable: &str, key: &str, declared: &Option<String>| {
            let set = environment(variable).filter(|value| !value.is_empty());
            let from_environment = set.map(|value| (value, format!("environment variable {variable}")));
            from_environment.or_else(|| declared.clone().map(|value| (value, format!("[runtime] {key}"))))
        };
        let bootstrap = pick("HEADWATER_BOOTSTRAP", "bootstrap", &settings.bootstrap);
        let bootstrap = bootstrap.map_or_else(|| DEFAULT_BOOTSTRAP.to_owned(), |(value, _)| value);
        let mut config = Self::new(bootstrap, manifest.group_id());
        config.client_id = manifest.client_id().to_owned();
        if let Some((file, origin)) =
            pick("HEADWATER_COMMAND_CONFIG", "command_config", &settings.command_config)
        {
            config.security = Security::load(Path::new(&file)).map_err(|error| ConfigError {
                value: file,
                origin,
                reason: error.to_string(),
            })?;
        }
        if let Some(registry) = config.security.http().registry_url() {
            config.registry = registry.to_owned();
        }
        if let Some((registry, _)) = pick("HEADWATER_REGISTRY", "registry", &settings.registry) {
            config.registry = registry;
        }
        if let Some((folder, _)) = pick("HEADWATER_STATE_DIR", "state_dir", &settings.state_dir) {
            config.state_dir = PathBuf::from(folder);
        }
        if let Some((address, origin)) = pick("HEADWATER_HTTP", "http", &settings.http) {
            config.http = Some(socket_address(address, origin)?);
        }
        if let Some((place, _)) = pick("HEADWATER_SNAPSHOTS", "snapshots", &settings.snapshots) {
            let mut snapshots = SnapshotConfig::new(place);
            if let Some(ms) = settings.snapshot_interval_ms {
                snapshots.interval = Duration::from_millis(ms);
            }
            config.snapshots = Some(snapshots);
        }
        if let Some((file, origin)) = pick("HEADWATER_HTTP_CONFIG", "http_config", &settings.http_config) {
            config.http_access = HttpAccess::load(Path::new(&file)).map_err(|error| ConfigError {
                value: file,
                origin,
                reason: error.to_string(),
            })?;
        }
        let server = pick("HEADWATER_APPLICATION_SERVER", "application_server", &settings.application_server);
        config.application_server = server.map(|(value, _)| value);
        config.instance = pick("HEADWATER_INSTANCE", "instance", &None).map(|(value, _)| value);
        config.guarantee = settings.guarantee.unwrap_or_default();
        config.group_protocol = match pick("HEADWATER_GROUP_PROTOCOL", "group_protocol", &None) {
            None => settings.group_protocol.unwrap_or_default(),
            Some((value, origin)) => value.parse().map_err(|advice: &str| ConfigError {
                value: value.clone(),
                origin,
                reason: advice.to_owned(),
            })?,
        };
        if let Some(ms) = settings.commit_interval_ms {
            config.commit_interval = Duration::from_millis(ms);
        }
        config.threads = settings.threads.unwrap_or(1);
        if let Some(replicas) = settings.num_standby_replicas {
            config.num_standby_replicas = replicas;
        }
        if let Some(ms) = settings.state_cleanup_delay_ms {
            config.state_cleanup_delay = Duration::from_millis(ms);
        }
        config.state_cleanup_dir_max_age = settings.state_cleanup_dir_max_age_ms.map(Duration::from_millis);
        config.manifest = Some(manifest.clone());
        Ok(config)
    }
}

/// `host:port`; a port alone is one of this machine.
fn socket_address(value: String, origin: String) -> Result<SocketAddr, ConfigError> {
    if let Ok(port) = value.strip_prefix(':').unwrap_or(&value).parse::<u16>() {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    let found = value.to_socket_addrs().map(|mut addresses| addresses.next());
    match found {
        Ok(Some(address)) => Ok(address),
        Ok(None) => {
            Err(ConfigError { value, origin, reason: "it names no address; use host:port".to_owned() })
        }
        Err(error) => Err(ConfigError { value, origin, reason: format!("{error}; use host:port") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[service]\nname = \"orders\"\nteam = \"t\"\n[runtime]\nbootstrap = \"kafka:9092\"\n\
                            http = \"127.0.0.1:7000\"\nguarantee = \"at-least-once\"\n";

    #[test]
    fn the_environment_wins_over_the_manifest() {
        let manifest = Manifest::parse(MANIFEST, "headwater.toml").unwrap();
        let config = AppConfig::from_manifest_and(&manifest, &|_| None).unwrap();
        assert_eq!((config.bootstrap.as_str(), config.application_id.as_str()), ("kafka:9092", "orders"));
        assert_eq!(config.http, Some("127.0.0.1:7000".parse().unwrap()));
        assert_eq!(config.guarantee, Guarantee::AtLeastOnce);
        let environment = |name: &str| match name {
            "HEADWATER_BOOTSTRAP" => Some("other:1".to_owned()),
            "HEADWATER_STATE_DIR" => Some("/data".to_owned()),
            _ => None,
        };
        let config = AppConfig::from_manifest_and(&manifest, &environment).unwrap();
        assert_eq!((config.bootstrap.as_str(), config.state_dir.to_str()), ("other:1", Some("/data")));
    }

    #[test]
    fn the_manifest_says_how_long_what_has_moved_away_is_kept() {
        let of = |text: &str| {
            let manifest = Manifest::parse(&format!("{MANIFEST}{text}"), "headwater.toml").unwrap();
            let config = AppConfig::from_manifest_and(&manifest, &|_| None).unwrap();
            (config.state_cleanup_delay, config.state_cleanup_dir_max_age)
        };
        assert_eq!(of(""), (Duration::from_secs(600), None));
        let said = "state_cleanup_delay_ms = 90000\nstate_cleanup_dir_max_age_ms = 2000\n";
        assert_eq!(of(said), (Duration::from_secs(90), Some(Duration::from_secs(2))));
    }

    #[test]
    fn a_port_alone_is_one_of_this_machine() {
        let manifest = Manifest::parse(MANIFEST, "headwater.toml").unwrap();
        for text in ["7070", ":7070"] {
            let config = AppConfig::from_manifest_and(&manifest, &|name| {
                (name == "HEADWATER_HTTP").then(|| text.to_owned())
            });
            assert_eq!(config.unwrap().http, Some("127.0.0.1:7070".parse().unwrap()));
        }
    }

    #[test]
    fn an_application_server_is_an_address_where_something_answers() {
        let mut config = AppConfig::new("kafka:9092", "app");
        let refused = |config: &AppConfig| config.check().unwrap_err().to_string();
        config.application_server = Some("host:7070".to_owned());
        assert!(refused(&config).contains("set http"));
        config.http = Some("0.0.0.0:7070".parse().unwrap());
        assert_eq!(config.check(), Ok(()));
        for wrong in ["host", "host:", ":7070", "host:0", "host:http"] {
            config.application_server = Some(wrong.to_owned());
            assert!(refused(&config).contains("host:port"), "{wrong}");
        }
    }

    #[test]
    fn the_groups_protocol_has_kafkas_words() {
        let manifest = Manifest::parse(MANIFEST, "headwater.toml").unwrap();
        let of = |text: &str| {
            AppConfig::from_manifest_and(&manifest, &|name| {
                (name == "HEADWATER_GROUP_PROTOCOL").then(|| text.to_owned())
            })
        };
        assert_eq!(of("").unwrap().group_protocol, GroupProtocol::Classic);
        assert_eq!(of("STREAMS").unwrap().group_protocol, GroupProtocol::Streams);
        let error = of("consumer").unwrap_err().to_string();
        assert!(error.contains("HEADWATER_GROUP_PROTOCOL") && error.contains("\"auto\""), "{error}");
        let text = format!("{MANIFEST}group_protocol = \"auto\"\n");
        let manifest = Manifest::parse(&text, "headwater.toml").unwrap();
        let config = AppConfig::from_manifest_and(&manifest, &|_| None).unwrap();
        assert_eq!(config.group_protocol, GroupProtocol::Auto);
    }

    #[test]
    fn an_address_that_is_none_names_its_origin() {
        let manifest = Manifest::parse(MANIFEST, "headwater.toml").unwrap();
        let environment = |name: &str| (name == "HEADWATER_HTTP").then(|| "nonsense".to_owned());
        let error = AppConfig::from_manifest_and(&manifest, &environment).unwrap_err();
        assert!(
            error.to_string().contains("HEADWATER_HTTP") && error.to_string().contains("nonsense"),
            "{error}"
        );
    }
}
