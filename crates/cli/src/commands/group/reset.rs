//! `headwater group reset`: a group goes on from somewhere else. A plan; with `--execute`, the work.

use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;

use headwater_client::{Client, Committed, Isolation, OffsetSpec};
use headwater_model::{Offset, TimestampMs, TopicPartition};
use serde_json::json;

use super::super::{moment, unknown_topic};
use super::SHARE;
use crate::Common;
use crate::output::{self, DATA, Failure, NO_INPUT};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  headwater group reset readers --topic orders --to-earliest\n  headwater group reset readers --topic orders:0,2 --to-offset 1200 --execute\n  headwater group reset readers --all-topics --shift-by -100 --execute"
)]
pub struct Reset {
    group: String,
    /// A topic, or TOPIC:P,P for some of its partitions; may repeat
    #[arg(long, value_name = "TOPIC[:P,P]", required_unless_present = "all_topics")]
    topic: Vec<String>,
    /// All topics that the group has committed something of
    #[arg(long, conflicts_with = "topic")]
    all_topics: bool,
    #[command(flatten)]
    to: To,
    /// Do it: no member may run. Without this the plan is printed, and nothing is changed
    #[arg(long)]
    execute: bool,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct To {
    /// To the oldest record that is there
    #[arg(long)]
    to_earliest: bool,
    /// To the end
    #[arg(long)]
    to_latest: bool,
    /// To this offset, or the nearest there is
    #[arg(long, value_name = "OFFSET")]
    to_offset: Option<Offset>,
    /// To the first record of this time or later: 2013-06-01T00:00:00Z, or milliseconds since 1970
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    to_datetime: Option<TimestampMs>,
    /// From what is committed so many on, or back when it is negative
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    shift_by: Option<i64>,
}

/// One partition of the plan.
struct Step {
    committed: Option<Offset>,
    to: Offset,
    end: Offset,
    /// Why it is not where it was told to go.
    note: &'static str,
}

type Plan = BTreeMap<TopicPartition, Step>;

impl Reset {
    pub async fn run(self, client: &Client, common: &Common) -> Result<ExitCode, Failure> {
        let group = &self.group;
        let described = client.list_groups().await?.into_iter().find(|one| one.group_id == *group);
        if described.as_ref().is_some_and(|one| one.protocol_type == SHARE) {
            let what = format!("{group} is a share group, whose records are acknowledged one by one");
            let next = "kafka-share-groups.sh --reset-offsets of Apache Kafka";
            return Err(Failure::new(DATA, what, next.to_owned()));
        }
        let committed = client.committed(group, None).await?;
        let chosen = self.chosen(client, &committed).await?;
        let plan = self.plan(client, &committed, chosen).await?;
        let members = client.describe_group(group).await?.members.len();
        if self.execute {
            output::to_the_end();
        }
        self.tell(&plan, described.is_some(), members, common);
        if !self.execute {
            return Ok(ExitCode::SUCCESS);
        }
        if members > 0 {
            let what =
                format!("group {group} has {}, which would write over it", output::count(members, "member"));
            let next = format!("stop them: headwater group describe {group} names them");
            return Err(Failure::new(DATA, what, next));
        }
        let to = |(at, step): (&TopicPartition, &Step)| {
            (at.clone(), Committed { offset: step.to, ..Committed::default() })
        };
        let offsets: HashMap<_, _> = plan.iter().map(to).collect();
        client.commit_offsets(group, &offsets).await?;
        let undo = self.undo(&plan);
        match common.json {
            true => output::json(&json!({ "reset": group, "undo": undo })),
            false => {
                output::line(&format!("\nreset {}", output::count(plan.len(), "partition")));
                undo.iter().for_each(|command| output::line(&format!("undo: {command}")));
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The partitions that are meant.
    async fn chosen(
        &self,
        client: &Client,
        committed: &HashMap<TopicPartition, Committed>,
    ) -> Result<Vec<TopicPartition>, Failure> {
        if self.all_topics {
            if committed.is_empty() {
                let what = format!("group {} has committed nothing", self.group);
                return Err(Failure::new(NO_INPUT, what, "headwater group list, or --topic NAME".to_owned()));
            }
            return Ok(committed.keys().cloned().collect());
        }
        let mut chosen = Vec::new();
        for wanted in &self.topic {
            let (topic, partitions) = named(wanted)?;
            let Some(info) = client.topic(topic).await? else { return Err(unknown_topic(topic)) };
            if let Some(beyond) = partitions.iter().find(|one| !(0..info.partitions).contains(*one)) {
                let what = format!(
                    "{topic} has {}, so no partition {beyond}",
                    output::count(info.partitions as usize, "partition")
                );
                return Err(Failure::new(NO_INPUT, what, format!("headwater topic describe {topic}")));
            }
            let all = (0..info.partitions).collect();
            let partitions = if partitions.is_empty() { all } else { partitions };
            chosen.extend(partitions.into_iter().map(|partition| TopicPartition::new(topic, partition)));
        }
        Ok(chosen)
    }

    async fn plan(
        &self,
        client: &Client,
        committed: &HashMap<TopicPartition, Committed>,
        chosen: Vec<TopicPartition>,
    ) -> Result<Plan, Failure> {
        let ask = |spec: OffsetSpec| chosen.iter().map(|at| (at.clone(), spec)).collect::<Vec<_>>();
        let starts = client.list_offsets(&ask(OffsetSpec::Earliest), Isolation::Uncommitted).await?;
        let ends = client.list_offsets(&ask(OffsetSpec::Latest), Isolation::Uncommitted).await?;
        let at_time = match self.to.to_datetime {
            Some(time) => {
                client.list_offsets(&ask(OffsetSpec::Timestamp(time)), Isolation::Uncommitted).await?
            }
            None => HashMap::new(),
        };
        let mut plan = Plan::new();
        for at in chosen {
            let committed = committed.get(&at).map(|committed| committed.offset);
            let (start, end) = (starts.get(&at).copied().unwrap_or(0), ends.get(&at).copied().unwrap_or(0));
            let wanted = match &self.to {
                To { to_earliest: true, .. } => start,
                To { to_offset: Some(offset), .. } => *offset,
                To { shift_by: Some(by), .. } => {
                    let Some(committed) = committed else { return Err(self.nothing_to_shift(&at)) };
                    committed.saturating_add(*by)
                }
                // Without a record of that time or later there is nothing to read.
                To { to_datetime: Some(_), .. } => at_time.get(&at).copied().unwrap_or(end),
                To { .. } => end,
            };
            let note = match wanted {
                below if below < start => "the oldest there is",
                above if above > end => "the end",
                _ if self.to.to_datetime.is_some() && !at_time.contains_key(&at) => "no record so late",
                _ => "",
            };
            plan.insert(at, Step { committed, to: wanted.clamp(start, end), end, note });
        }
        Ok(plan)
    }

    fn nothing_to_shift(&self, at: &TopicPartition) -> Failure {
        let what =
            format!("group {} has committed nothing of {at}, so there is nothing to shift", self.group);
        Failure::new(DATA, what, "--to-earliest, --to-latest, --to-offset or --to-datetime".to_owned())
    }

    fn tell(&self, plan: &Plan, exists: bool, members: usize, common: &Common) {
        if common.json {
            let step = |(at, step): (&TopicPartition, &Step)| {
                json!({
                    "topic": at.topic, "partition": at.partition, "committed": step.committed, "to": step.to,
                    "end": step.end, "lag": step.end - step.to,
                })
            };
            output::json(&json!({
                "group": self.group, "members": members, "plan": plan.iter().map(step).collect::<Vec<_>>(),
            }));
            return;
        }
        let number = output::number;
        let row = |(at, step): (&TopicPartition, &Step)| {
            let committed = step.committed.map_or_else(|| "-".to_owned(), number);
            let (to, end, lag) = (number(step.to), number(step.end), number(step.end - step.to));
            vec![at.to_string(), committed, to, end, lag, step.note.to_owned()]
        };
        let header = ["PARTITION", "COMMITTED#", "TO#", "END#", "LAG#", ""];
        output::table(&header, plan.iter().map(row).collect());
        if !exists {
            output::line(&format!("there is no group {} yet: this makes it", self.group));
        }
        if members > 0 {
            let members = output::count(members, "member");
            output::line(&format!("{members} in the group: it is carried out only when they have stopped"));
        }
        if !self.execute {
            output::line("a plan: nothing is changed without --execute");
        }
    }

    /// One command for each partition that had an offset.
    fn undo(&self, plan: &Plan) -> Vec<String> {
        let back = |(at, step): (&TopicPartition, &Step)| {
            let (group, TopicPartition { topic, partition }) = (&self.group, at);
            let offset = step.committed.filter(|committed| *committed != step.to)?;
            Some(format!(
                "headwater group reset {group} --topic {topic}:{partition} --to-offset {offset} --execute"
            ))
        };
        plan.iter().filter_map(back).collect()
    }
}

/// `orders`, or `orders:0,2`.
fn named(text: &str) -> Result<(&str, Vec<i32>), Failure> {
    let Some((topic, list)) = text.split_once(':') else { return Ok((text, Vec::new())) };
    let partitions: Result<Vec<i32>, _> = list.split(',').map(str::parse).collect();
    let partitions = partitions.map_err(|_| {
        let what = format!("--topic {text}: {list:?} is no list of partitions");
        Failure::new(output::USAGE, what, format!("--topic {topic}:0,1, or --topic {topic} for all"))
    })?;
    Ok((topic, partitions))
}
