//! The manifest `headwater.toml`: one service's name, owner, inputs, outputs, internal streams and run-time settings.
//!
//! Invariant: a [`Manifest`] that exists is valid; names are legal for Kafka and no output is declared twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use serde::Serialize;
use toml::de::DeTable;

use crate::document::{Section, Source};
use crate::error::ManifestError;

/// A service as it declares itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Manifest {
    pub service: Service,
    /// Topics it reads, by the alias the code uses.
    pub inputs: BTreeMap<String, Input>,
    /// Topics it owns and writes, by the alias the code uses.
    pub outputs: BTreeMap<String, Output>,
    pub internal: Internal,
    /// Further streams the service owns without being their only writer.
    pub streams: Vec<Stream>,
    pub runtime: RuntimeSettings,
}

/// `[service]`: who it is and who answers for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    pub name: String,
    pub team: String,
    pub description: String,
    pub tags: Vec<String>,
}

/// `[inputs.<alias>]`: a topic of someone's that this service reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Input {
    pub topic: String,
    pub description: String,
}

/// `[outputs.<alias>]`: a topic this service creates and writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Output {
    pub topic: String,
    pub description: String,
    /// The value schema's file, relative to the manifest.
    pub schema: Option<String>,
    /// Partitions to create it with; without it, as many as the widest input has.
    pub partitions: Option<i32>,
    /// Topic settings under Kafka's names.
    pub config: BTreeMap<String, String>,
}

/// `[internal]`: repartition topics and stores, closed to everyone else. Their topics are named
/// `<application id>-<name>-repartition` and `<application id>-<name>-changelog`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Internal {
    pub repartitions: Vec<String>,
    pub stores: Vec<String>,
}

/// `[[streams]]`: a stream owned by this service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stream {
    pub topic: String,
    pub description: String,
    pub schema: Option<String>,
    pub partitions: Option<i32>,
    pub config: BTreeMap<String, String>,
}

/// How safely results are committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Guarantee {
    /// Outputs, state and offsets in one transaction.
    #[default]
    ExactlyOnce,
    /// Duplicates after a failure, nothing lost.
    AtLeastOnce,
}

/// How an application joins its group (Kafka Streams' `group.protocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum GroupProtocol {
    /// The instances assign tasks themselves, and all of them stop for that.
    #[default]
    Classic,
    /// The broker assigns tasks (KIP-1071); Apache Kafka 4.2 or later.
    Streams,
    /// As the group is already; a group without members goes by the streams protocol where the cluster offers it.
    Auto,
}

impl FromStr for GroupProtocol {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "classic" => Ok(Self::Classic),
            "streams" => Ok(Self::Streams),
            "auto" => Ok(Self::Auto),
            _ => Err("use \"classic\", \"streams\" or \"auto\""),
        }
    }
}

/// `[runtime]`: settings that environment variables may override.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct RuntimeSettings {
    /// `host:port` of a broker.
    pub bootstrap: Option<String>,
    /// A properties file with Kafka's client keys: TLS and identity towards brokers and registry.
    pub command_config: Option<String>,
    /// URL of the schema registry.
    pub registry: Option<String>,
    pub state_dir: Option<String>,
    /// `host:port` on which queries are answered; a port alone is one of this machine.
    pub http: Option<String>,
    /// A properties file that says who may ask there, and how they say who they are.
    pub http_config: Option<String>,
    /// `host:port` at which other instances reach it.
    pub application_server: Option<String>,
    pub guarantee: Option<Guarantee>,
    pub group_protocol: Option<GroupProtocol>,
    pub commit_interval_ms: Option<u64>,
    pub threads: Option<usize>,
    /// Copies of each task's stores on other instances.
    pub num_standby_replicas: Option<usize>,
    /// How long the stores of a task that has moved to another instance are kept.
    pub state_cleanup_delay_ms: Option<u64>,
    /// How old the stores of a task may be that the process finds when it starts.
    pub state_cleanup_dir_max_age_ms: Option<u64>,
    /// Where snapshots of the stores lie: `file:///directory` or `s3://bucket/prefix`.
    pub snapshots: Option<String>,
    pub snapshot_interval_ms: Option<u64>,
}

const TOP: [&str; 6] = ["service", "inputs", "outputs", "internal", "streams", "runtime"];
const SERVICE: [&str; 4] = ["name", "team", "description", "tags"];
const INPUT: [&str; 2] = ["topic", "description"];
const STREAM: [&str; 5] = ["topic", "description", "schema", "partitions", "config"];
const INTERNAL: [&str; 2] = ["repartitions", "stores"];
const RUNTIME: [&str; 16] = [
    "bootstrap",
    "command_config",
    "registry",
    "state_dir",
    "http",
    "http_config",
    "application_server",
    "guarantee",
    "group_protocol",
    "commit_interval_ms",
    "threads",
    "num_standby_replicas",
    "state_cleanup_delay_ms",
    "state_cleanup_dir_max_age_ms",
    "snapshots",
    "snapshot_interval_ms",
];

/// Kafka's limit on topic names is 249; internal topics append to the service's name.
const NAME_LIMIT: usize = 128;

impl Manifest {
    /// Reads the file at `path`.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ManifestError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|source| ManifestError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads a manifest's text; `origin` names it in errors.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ManifestError> {
        let source = Source { text, origin };
        let document = DeTable::parse(text).map_err(|error| source.syntax(&error))?;
        let top = Section::new(&source, "the manifest".to_owned(), 0, document.get_ref(), &TOP)?;
        let service = service(&top)?;
        let mut owned = Vec::new();
        let mut outputs = BTreeMap::new();
        for (alias, section) in top.tables("outputs", &STREAM)? {
            let Stream { topic, description, schema, partitions, config } = stream(&section, &mut owned)?;
            outputs.insert(alias, Output { topic, description, schema, partitions, config });
        }
        let streams = top
            .list("streams", &STREAM)?
            .iter()
            .map(|section| stream(section, &mut owned))
            .collect::<Result<_, _>>()?;
        let mut inputs = BTreeMap::new();
        for (alias, section) in top.tables("inputs", &INPUT)? {
            let input = Input {
                topic: topic(&section)?,
                description: section.text("description")?.unwrap_or_default(),
            };
            inputs.insert(alias, input);
        }
        Ok(Self { service, inputs, outputs, internal: internal(&top)?, streams, runtime: runtime(&top)? })
    }

    /// The Kafka client id of every connection the service opens.
    pub fn client_id(&self) -> &str {
        &self.service.name
    }

    /// The consumer group, which is also the streams application id.
    pub fn group_id(&self) -> &str {
        &self.service.name
    }

    /// The topic of an input, by its alias.
    pub fn input(&self, alias: &str) -> Option<&str> {
        self.inputs.get(alias).map(|input| input.topic.as_str())
    }

    /// The topic of an output, by its alias.
    pub fn output(&self, alias: &str) -> Option<&str> {
        self.outputs.get(alias).map(|output| output.topic.as_str())
    }
}

fn service(top: &Section<'_, '_>) -> Result<Service, ManifestError> {
    let section = top
        .table("service", &SERVICE)?
        .ok_or_else(|| top.missing("service", "[service]\nname = \"orders\""))?;
    let name = section.required_text("name", "name = \"orders\"")?;
    legal(&section, "name", &name)?;
    Ok(Service {
        team: section.required_text("team", "team = \"team-orders\"")?,
        description: section.text("description")?.unwrap_or_default(),
        tags: section.texts("tags")?,
        name,
    })
}

fn legal(section: &Section<'_, '_>, key: &str, name: &str) -> Result<(), ManifestError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name == "." || name == ".." || name.len() > NAME_LIMIT || !name.chars().all(allowed)
    {
        let reason = format!("use 1 to {NAME_LIMIT} of the characters a-z, A-Z, 0-9, '.', '_' and '-'");
        return Err(section.invalid(key, name, reason));
    }
    Ok(())
}

fn topic(section: &Section<'_, '_>) -> Result<String, ManifestError> {
    let topic = section.required_text("topic", "topic = \"orders\"")?;
    legal(section, "topic", &topic)?;
    Ok(topic)
}

fn stream(section: &Section<'_, '_>, owned: &mut Vec<String>) -> Result<Stream, ManifestError> {
    let topic = topic(section)?;
    if owned.contains(&topic) {
        return Err(section.invalid(
            "topic",
            topic,
            "it is declared twice; remove one of the two declarations",
        ));
    }
    owned.push(topic.clone());
    Ok(Stream {
        topic,
        description: section.text("description")?.unwrap_or_default(),
        schema: section.text("schema")?,
        partitions: section.number("partitions", 1)?,
        config: section.settings("config")?,
    })
}

fn internal(top: &Section<'_, '_>) -> Result<Internal, ManifestError> {
    let Some(section) = top.table("internal", &INTERNAL)? else { return Ok(Internal::default()) };
    let names = |key: &str| -> Result<Vec<String>, ManifestError> {
        let names = section.texts(key)?;
        names.iter().try_for_each(|name| legal(&section, key, name))?;
        Ok(names)
    };
    Ok(Internal { repartitions: names("repartitions")?, stores: names("stores")? })
}

fn runtime(top: &Section<'_, '_>) -> Result<RuntimeSettings, ManifestError> {
    let Some(section) = top.table("runtime", &RUNTIME)? else { return Ok(RuntimeSettings::default()) };
    let guarantee = match section.text("guarantee")?.as_deref() {
        None => None,
        Some("exactly-once") => Some(Guarantee::ExactlyOnce),
        Some("at-least-once") => Some(Guarantee::AtLeastOnce),
        Some(other) => {
            return Err(section.invalid("guarantee", other, "use \"exactly-once\" or \"at-least-once\""));
        }
    };
    let group_protocol = match section.text("group_protocol")? {
        None => None,
        Some(text) => {
            Some(text.parse().map_err(|advice| section.invalid("group_protocol", text.as_str(), advice))?)
        }
    };
    Ok(RuntimeSettings {
        bootstrap: section.text("bootstrap")?,
        command_config: section.text("command_config")?,
        registry: section.text("registry")?,
        state_dir: section.text("state_dir")?,
        http: section.text("http")?,
        http_config: section.text("http_config")?,
        application_server: section.text("application_server")?,
        guarantee,
        group_protocol,
        commit_interval_ms: section.number("commit_interval_ms", 1)?,
        threads: section.number("threads", 1)?,
        num_standby_replicas: section.number("num_standby_replicas", 0)?,
        state_cleanup_delay_ms: section.number("state_cleanup_delay_ms", 0)?,
        state_cleanup_dir_max_age_ms: section.number("state_cleanup_dir_max_age_ms", 0)?,
        snapshots: section.text("snapshots")?,
        snapshot_interval_ms: section.number("snapshot_interval_ms", 1)?,
    })
}
