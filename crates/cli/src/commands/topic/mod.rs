//! `headwater topic`: the streams of a cluster.

mod alter;
mod delete;

use std::collections::HashSet;
use std::process::ExitCode;

use headwater_client::{Client, ClientError, ErrorCode, Isolation, NewTopic, OffsetSpec};
use headwater_model::{StreamKind, TopicPartition};
use serde_json::{Map, Value, json};

use super::kind::{self, Kind};
use super::{connect, unknown_topic, usage};
use crate::Common;
use crate::output::{self, Failure};

#[derive(clap::Subcommand)]
pub enum Topic {
    /// All topics; --all shows internal ones, too
    List {
        #[arg(long)]
        all: bool,
    },
    /// Partitions with their offsets, the configuration, and who writes and reads it
    Describe { name: String },
    /// A new topic
    Create {
        name: String,
        #[arg(long, short, default_value_t = 1)]
        partitions: i32,
        /// How many brokers hold each partition; -1 for the broker's default. Headwater's broker is one
        #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
        replication_factor: i16,
        /// Kafka's topic configuration, for example cleanup.policy=compact; may repeat
        #[arg(long, short, value_name = "KEY=VALUE", value_parser = key_value)]
        config: Vec<(String, String)>,
        /// What its events are. Headwater's broker refuses records that do not fit; Apache Kafka does not, there
        /// it is only known to the catalog
        #[arg(long, value_enum)]
        kind: Option<Kind>,
    },
    /// Change what is configured of a topic, or how many partitions it has
    Alter(alter::Alter),
    /// Delete topics and their records
    Delete {
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Also what the broker, the registry and Headwater's tools keep their own records in
        #[arg(long)]
        internal: bool,
    },
}

const OWNER: &str = "headwater.owner";
/// How the streams of one service end that nobody else should touch.
const OWN: [&str; 2] = ["-changelog", "-repartition"];
const OPEN: &str = "by its name it is one service's own stream, and it is open to others: it has no headwater.owner, because its creator was anonymous or a super-user";

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Topic {
    pub async fn run(self, common: &Common) -> Result<ExitCode, Failure> {
        let client = connect(common).await?;
        match self {
            Topic::List { all } => list(&client, common, all).await?,
            Topic::Describe { name } => describe(&client, common, &name).await?,
            Topic::Create { name, partitions, replication_factor, config, kind } => {
                let topic = NewTopic::new(name, partitions).replication(replication_factor);
                create(&client, common, topic, config, kind).await?;
            }
            Topic::Alter(alter) => alter.run(&client, common).await?,
            Topic::Delete { names, yes, internal } => {
                delete::run(&client, common, &names, yes, internal).await?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn create(
    client: &Client,
    common: &Common,
    topic: NewTopic,
    configs: Vec<(String, String)>,
    kind: Option<Kind>,
) -> Result<(), Failure> {
    let (name, partitions) = (topic.name.clone(), topic.partitions);
    let enforced = match kind {
        Some(kind) => kind::create(client, &topic, &configs, kind).await?,
        None => {
            let topic = configs.into_iter().fold(topic, |topic, (key, value)| topic.config(key, value));
            client.create_topic(topic).await?;
            true
        }
    };
    if common.json {
        let kind = kind.map(Kind::name);
        output::json(
            &json!({ "created": name, "partitions": partitions, "kind": kind, "enforced": kind.map(|_| enforced) }),
        );
        return Ok(());
    }
    output::line(&format!("created {name}; undo: headwater topic delete {name} --yes"));
    if !enforced {
        output::line(
            "its kind is in the catalog: Headwater's producers keep to it, this broker does not refuse what others send",
        );
    }
    Ok(())
}

fn partitions(topic: &str, count: i32) -> impl Iterator<Item = TopicPartition> {
    (0..count).map(move |partition| TopicPartition::new(topic, partition))
}

/// Where each partition begins and ends; nothing of one without a leader, whose node is away: to wait for it would keep back
/// what is known of the others.
async fn ends(client: &Client, all: &[TopicPartition]) -> Result<Vec<Option<(i64, i64)>>, ClientError> {
    let away: HashSet<TopicPartition> = client.without_leader(all).await?.into_iter().collect();
    let ask = |spec: OffsetSpec| -> Vec<_> {
        all.iter().filter(|at| !away.contains(*at)).map(|at| (at.clone(), spec)).collect()
    };
    let starts = client.list_offsets(&ask(OffsetSpec::Earliest), Isolation::Uncommitted).await?;
    let ends = client.list_offsets(&ask(OffsetSpec::Latest), Isolation::Uncommitted).await?;
    Ok(all.iter().map(|at| Some((*starts.get(at)?, *ends.get(at)?))).collect())
}

async fn list(client: &Client, common: &Common, all: bool) -> Result<(), Failure> {
    let mut topics = client.topics().await?;
    topics.retain(|topic| all || !(topic.internal || topic.name.starts_with('_')));
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    // Of all at once: there may be thousands.
    let all: Vec<_> = topics.iter().flat_map(|topic| partitions(&topic.name, topic.partitions)).collect();
    let mut offsets = ends(client, &all).await?.into_iter();
    let mut rows = Vec::new();
    for topic in &topics {
        let of_topic = offsets.by_ref().take(topic.partitions as usize);
        let records: i64 = of_topic.flatten().map(|(start, end)| end - start).sum();
        if common.json {
            output::json(
                &json!({ "topic": topic.name, "partitions": topic.partitions, "records": records, "internal": topic.internal }),
            );
        }
        rows.push(vec![topic.name.clone(), topic.partitions.to_string(), output::number(records)]);
    }
    if common.json {
        return Ok(());
    }
    if rows.is_empty() && output::is_terminal() {
        output::line("no topics yet; try: headwater topic create orders");
        return Ok(());
    }
    output::table(&["TOPIC", "PARTITIONS#", "RECORDS#"], rows);
    Ok(())
}

async fn describe(client: &Client, common: &Common, name: &str) -> Result<(), Failure> {
    let Some(topic) = client.topic(name).await? else { return Err(unknown_topic(name)) };
    let offsets = ends(client, &partitions(name, topic.partitions).collect::<Vec<_>>()).await?;
    let configs = client.topic_configs(name).await?;
    let usage = usage::of(client, name).await?;
    let kind = match configs.iter().find(|entry| entry.name == kind::KEY) {
        Some(entry) => entry.value.clone().filter(|_| !entry.is_default),
        None => match client.kind_of(name).await {
            Ok(known) => (known != StreamKind::Unspecified).then(|| known.name().to_owned()),
            // Whoever may not read the catalog sees the rest.
            Err(error) if error.code() == Some(ErrorCode::TopicAuthorizationFailed) => None,
            Err(error) => return Err(error.into()),
        },
    };
    if common.json {
        let partitions: Vec<Value> = offsets
            .iter()
            .enumerate()
            .map(|(partition, of)| {
                json!({
                    "partition": partition, "log_start_offset": of.map(|(start, _)| start),
                    "end_offset": of.map(|(_, end)| end),
                })
            })
            .collect();
        let configs: Map<String, Value> =
            configs.into_iter().map(|entry| (entry.name, entry.value.into())).collect();
        let usage = usage.map(|usage| usage.json());
        output::json(&json!({
            "topic": name, "kind": kind, "partitions": partitions, "configs": configs, "usage": usage,
        }));
        return Ok(());
    }
    if let Some(kind) = kind {
        output::line(&format!("an {} stream", kind).replace("an keyed", "a keyed"));
    }
    let cell = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), output::number);
    let rows = offsets.iter().enumerate().map(|(partition, of)| {
        vec![
            format!("{name}/{partition}"),
            cell(of.map(|(start, _)| start)),
            cell(of.map(|(_, end)| end)),
            cell(of.map(|(start, end)| end - start)),
        ]
    });
    output::table(&["PARTITION", "START#", "END#", "RECORDS#"], rows.collect());
    if offsets.contains(&None) {
        output::note(
            "partitions of which nothing is known (-) have no leader: the node that has them is away",
        );
    }
    let owned = configs.iter().any(|entry| entry.name == OWNER && !entry.is_default);
    let open = (!owned && OWN.iter().any(|end| name.ends_with(end))).then_some(OPEN);
    let rows: Vec<_> = configs
        .into_iter()
        .filter(|entry| !entry.is_default)
        .map(|entry| vec![entry.name, entry.value.unwrap_or_default()])
        .collect();
    if !rows.is_empty() {
        output::line("");
        output::table(&["CONFIG", "VALUE"], rows);
    }
    match usage {
        Some(usage) => {
            if let Some(open) = open {
                output::line(&format!("\n{open}"));
            }
            usage.print();
        }
        None => output::line("\nthis broker does not record who writes and reads; Headwater's broker does"),
    }
    Ok(())
}
