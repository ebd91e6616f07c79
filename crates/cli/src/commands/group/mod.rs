//! `headwater group`: who reads, and how far behind; and having it read from somewhere else.

mod delete;
mod reset;

use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;

use headwater_client::{Client, ClientError, Isolation, Member, OffsetSpec};
use headwater_model::TopicPartition;
use serde_json::{Value, json};

use super::connect;
use crate::Common;
use crate::output::{self, Failure, NO_INPUT};

/// The protocol type of share groups (KIP-932).
const SHARE: &str = "share";

#[derive(clap::Subcommand)]
pub enum Group {
    /// All groups: of consumers, and share groups
    List,
    /// Members, offsets and lag
    Describe { group: String },
    /// Delete groups that have no members, with what they have committed
    Delete {
        #[arg(required = true, value_name = "GROUP")]
        groups: Vec<String>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Where a group goes on: a plan, and, with --execute, the work
    Reset(reset::Reset),
}

fn unknown_group(group: &str) -> Failure {
    Failure::new(NO_INPUT, format_args!("there is no group {group}"), "headwater group list".to_owned())
}

impl Group {
    pub async fn run(self, common: &Common) -> Result<ExitCode, Failure> {
        let client = connect(common).await?;
        match self {
            Group::List => {
                let mut groups = client.list_groups().await?;
                groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
                if common.json {
                    for group in &groups {
                        output::json(
                            &json!({ "group": group.group_id, "state": group.state, "protocol_type": group.protocol_type }),
                        );
                    }
                    return Ok(ExitCode::SUCCESS);
                }
                let rows =
                    groups.into_iter().map(|group| vec![group.group_id, group.state, group.protocol_type]);
                output::table(&["GROUP", "STATE", "PROTOCOL TYPE"], rows.collect());
            }
            Group::Describe { group } => {
                let listed = client.list_groups().await?;
                if listed.iter().any(|one| one.group_id == group && one.protocol_type == SHARE) {
                    return describe_share(&client, &group, common).await;
                }
                let description = client.describe_group(&group).await?;
                // As Kafka's tool: what an open transaction may add is not waited for.
                let committed = client.committed_until_now(&group).await?;
                if description.members.is_empty() && committed.is_empty() {
                    return Err(unknown_group(&group));
                }
                let mut places: BTreeMap<TopicPartition, Option<i64>> =
                    committed.into_iter().map(|(at, place)| (at, Some(place.offset))).collect();
                let mut held: HashMap<&TopicPartition, &Member> = HashMap::new();
                for member in &description.members {
                    held.extend(member.assignment.iter().map(|at| (at, member)));
                }
                // What a member has is the group's, too, where nothing of it is committed.
                for at in held.keys() {
                    places.entry((*at).clone()).or_insert(None);
                }
                let ends = ends(&client, places.keys()).await?;
                let mut total = 0;
                let mut rows = Vec::new();
                let mut partitions: Vec<Value> = Vec::new();
                for (at, committed) in places {
                    let end = ends.get(&at).copied();
                    let lag = committed.zip(end).map(|(committed, end)| (end - committed).max(0));
                    total += lag.unwrap_or(0);
                    let member = held.get(&at).map_or_else(String::new, |m| {
                        format!("{} ({})", m.client_id, m.host.trim_start_matches('/'))
                    });
                    partitions.push(json!({
                        "topic": at.topic, "partition": at.partition, "committed": committed, "end": end, "lag": lag,
                        "member": member,
                    }));
                    let cell = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), output::number);
                    rows.push(vec![at.to_string(), cell(committed), cell(end), cell(lag), member]);
                }
                if common.json {
                    output::json(&json!({
                        "group": group, "state": description.state, "members": description.members.len(), "lag": total,
                        "partitions": partitions,
                    }));
                    return Ok(ExitCode::SUCCESS);
                }
                output::line(&format!(
                    "GROUP {group}   {}   {}   lag {}\n",
                    description.state,
                    output::count(description.members.len(), "member"),
                    output::number(total)
                ));
                output::table(&["PARTITION", "COMMITTED#", "END#", "LAG#", "MEMBER"], rows);
            }
            Group::Delete { groups, yes } => return delete::run(&client, common, groups, yes).await,
            Group::Reset(reset) => return reset.run(&client, common).await,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Where partitions end; nothing of one that is not there any more, or has no leader since its node is away.
async fn ends<'a>(
    client: &Client,
    partitions: impl Iterator<Item = &'a TopicPartition>,
) -> Result<HashMap<TopicPartition, i64>, ClientError> {
    let topics = client.topics().await?;
    let there: HashMap<&str, i32> =
        topics.iter().map(|topic| (topic.name.as_str(), topic.partitions)).collect();
    let is_there =
        |at: &&TopicPartition| there.get(at.topic.as_str()).is_some_and(|count| at.partition < *count);
    let found: Vec<TopicPartition> = partitions.filter(is_there).cloned().collect();
    let away = client.without_leader(&found).await?;
    let led = found.into_iter().filter(|at| !away.contains(at));
    let ask: Vec<_> = led.map(|at| (at, OffsetSpec::Latest)).collect();
    client.list_offsets(&ask, Isolation::Uncommitted).await
}

/// Members of a share group have no partition for themselves, so none is named beside one.
async fn describe_share(client: &Client, group: &str, common: &Common) -> Result<ExitCode, Failure> {
    let described = client.describe_share_group(group).await?;
    let lag: i64 = described.offsets.iter().map(|offset| offset.lag.max(0)).sum();
    if common.json {
        let partitions = described.offsets.iter().map(|offset| {
            let at = &offset.partition;
            json!({ "topic": at.topic, "partition": at.partition, "start": offset.start, "lag": offset.lag })
        });
        let members = described.members.iter().map(|member| {
            let partitions: Vec<String> = member.assignment.iter().map(ToString::to_string).collect();
            json!({ "member": member.member_id, "client": member.client_id, "partitions": partitions })
        });
        output::json(&json!({
            "group": group, "type": SHARE, "state": described.state, "lag": lag,
            "members": members.collect::<Vec<_>>(), "partitions": partitions.collect::<Vec<_>>(),
        }));
        return Ok(ExitCode::SUCCESS);
    }
    output::line(&format!(
        "SHARE GROUP {group}   {}   {}   lag {}\n",
        described.state,
        output::count(described.members.len(), "member"),
        output::number(lag)
    ));
    let rows = described.offsets.iter().map(|offset| {
        vec![offset.partition.to_string(), output::number(offset.start), output::number(offset.lag)]
    });
    output::table(&["PARTITION", "START#", "LAG#"], rows.collect());
    Ok(ExitCode::SUCCESS)
}
