//! `headwater topology reprocess`: what processing everything again would take, and then, if it is told to, doing it.

use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;
use std::time::Duration;

use headwater_client::{Client, Committed, Isolation, OffsetSpec};
use headwater_model::{Offset, TimestampMs, TopicPartition};
use headwater_streams::reprocess_until;
use serde_json::json;

use super::external::Outside;
use super::sample::{Sample, Speed, for_seconds, plain};
use super::{connect, moment};
use crate::Common;
use crate::output::{self, DATA, Failure, NO_INPUT};

#[derive(clap::Args)]
pub struct Reprocess {
    /// The application id
    application: String,
    /// Only these of the topics it reads; the others stay where they are
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// From this time on (2013-06-01T00:00:00Z, or milliseconds since 1970) instead of from the beginning
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    from: Option<TimestampMs>,
    /// A changelog that its name gives to this application and that is another's, as both names begin alike: it stays; may
    /// repeat
    #[arg(long, value_name = "TOPIC")]
    keep: Vec<String>,
    #[command(flatten)]
    speed: Speed,
    /// Seconds to read for, to learn how large records are
    #[arg(long, default_value_t = 2, value_name = "SECONDS")]
    sample: u64,
    /// The database of the application's external stores, postgres://… or redis://…: their tables are emptied and their positions
    /// set in one transaction. Without it they go on where they are
    #[arg(long, value_name = "URL", env = "HEADWATER_EXTERNAL", hide_env_values = true)]
    external: Option<String>,
    /// Do it: no instance may run. Without this the plan is printed, and nothing is changed
    #[arg(long)]
    execute: bool,
}

/// One partition that is read again.
struct Part {
    committed: Option<Offset>,
    from: Offset,
    end: Offset,
}

struct Plan {
    parts: BTreeMap<TopicPartition, Part>,
    /// Repartition topics, with their ends: what is in them comes again.
    skipped: BTreeMap<TopicPartition, Offset>,
    /// Changelogs that are deleted, and made anew by the application.
    deleted: Vec<String>,
    /// Those of them that may as well be another application's by their name: the topic and the other's group.
    doubtful: Vec<(String, String)>,
    /// Its external stores.
    outside: Option<Outside>,
}

impl Plan {
    /// Where everything begins.
    fn offsets(&self) -> HashMap<TopicPartition, Committed> {
        let again = self.parts.iter().map(|(at, part)| (at, part.from, reprocess_until(part.end)));
        let skipped = self.skipped.iter().map(|(at, end)| (at, *end, String::new()));
        again
            .chain(skipped)
            .map(|(at, offset, metadata)| (at.clone(), Committed { offset, metadata, leader_epoch: None }))
            .collect()
    }

    fn tables(&self) -> Vec<&str> {
        self.outside.iter().flat_map(|outside| &outside.tables).map(|of| of.table.as_str()).collect()
    }
}

/// Changelogs whose name begins with that of another group, too.
fn doubtful(deleted: &[String], others: &[String]) -> Vec<(String, String)> {
    let of = |topic: &String| {
        let rest =
            |group: &&String| topic.strip_prefix(group.as_str()).is_some_and(|rest| rest.starts_with('-'));
        others.iter().find(rest).map(|group| (topic.clone(), group.clone()))
    };
    deleted.iter().filter_map(of).collect()
}

impl Reprocess {
    pub async fn run(self, common: &Common) -> Result<ExitCode, Failure> {
        let client = connect(common).await?;
        let plan = self.plan(&client).await?;
        let parts = plan.parts.iter().map(|(at, part)| (at.clone(), (part.from, part.end))).collect();
        let sample = Sample::take(&client, &parts, Duration::from_secs(self.sample)).await?;
        let (speed, by) = self.speed.of(&sample, &self.application, common).await?;
        if self.execute {
            output::to_the_end();
        }
        self.tell(&plan, &sample, (speed, by), common);
        if !self.execute {
            return Ok(ExitCode::SUCCESS);
        }
        self.carry_out(&client, &plan).await?;
        let next = format!(
            "now remove <state_dir>/{} of every instance before it starts: its stores are those of before",
            self.application
        );
        match common.json {
            true => output::json(&json!({ "reset": true, "next": next })),
            false => output::line(&format!("\nreset; {next}")),
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn plan(&self, client: &Client) -> Result<Plan, Failure> {
        let committed = client.committed(&self.application, None).await?;
        if committed.is_empty() {
            let what =
                format!("group {} has committed nothing: there is nothing to do again", self.application);
            return Err(Failure::new(NO_INPUT, what, "headwater group list".to_owned()));
        }
        let own = format!("{}-", self.application);
        let internal = |topic: &str, end: &str| topic.starts_with(&own) && topic.ends_with(end);
        let chosen = |topic: &str| self.topic.is_empty() || self.topic.iter().any(|known| known == topic);
        if let Some(topic) = self.topic.iter().find(|topic| committed.keys().all(|at| at.topic != **topic)) {
            let what = format!("group {} has committed nothing of topic {topic}", self.application);
            return Err(Failure::new(
                NO_INPUT,
                what,
                format!("headwater group describe {}", self.application),
            ));
        }
        let ask = |spec: OffsetSpec| committed.keys().map(|at| (at.clone(), spec)).collect::<Vec<_>>();
        let from = self.from.map_or(OffsetSpec::Earliest, OffsetSpec::Timestamp);
        let starts = client.list_offsets(&ask(from), Isolation::Committed).await?;
        let ends = client.list_offsets(&ask(OffsetSpec::Latest), Isolation::Committed).await?;
        let (mut parts, mut skipped) = (BTreeMap::new(), BTreeMap::new());
        for (at, end) in ends {
            if internal(&at.topic, "-repartition") {
                skipped.insert(at, end);
            } else if chosen(&at.topic) {
                // Without a record of that time or later there is nothing to read.
                let from = starts.get(&at).copied().unwrap_or(end);
                let committed = committed.get(&at).map(|committed| committed.offset);
                parts.insert(at, Part { committed, from, end });
            }
        }
        let topics = client.topics().await?.into_iter().map(|topic| topic.name);
        let goes = |topic: &String| internal(topic, "-changelog") && !self.keep.contains(topic);
        let mut deleted: Vec<String> = topics.filter(goes).collect();
        deleted.sort();
        let groups = client.list_groups().await?.into_iter().map(|group| group.group_id);
        let alike: Vec<String> = groups.filter(|group| group.starts_with(&own)).collect();
        let doubtful = doubtful(&deleted, &alike);
        let outside = match &self.external {
            Some(url) => Some(Outside::look(url, &self.application).await?),
            None => None,
        };
        Ok(Plan { parts, skipped, deleted, doubtful, outside })
    }

    fn tell(&self, plan: &Plan, sample: &Sample, (speed, by): (f64, String), common: &Common) {
        let offsets: i64 = plan.parts.values().map(|part| (part.end - part.from).max(0)).sum();
        // Offsets of markers and of what compaction removed are no records.
        let per = |count: u64| if sample.offsets > 0 { count as f64 / sample.offsets as f64 } else { 0.0 };
        let records = (offsets as f64 * per(sample.records)).round();
        let bytes = (offsets as f64 * per(sample.bytes)).round();
        let seconds = (speed > 0.0).then(|| (records / speed).ceil());
        if common.json {
            let part = |(at, part): (&TopicPartition, &Part)| {
                json!({
                    "topic": at.topic, "partition": at.partition, "committed": part.committed, "from": part.from, "end": part.end,
                })
            };
            output::json(&json!({
                "application_id": self.application, "partitions": plan.parts.iter().map(part).collect::<Vec<_>>(),
                "offsets": offsets, "records": records, "bytes": bytes, "records_per_second": speed, "speed": by,
                "seconds": seconds, "deleted": plan.deleted, "emptied": plan.tables(),
                "doubtful": plan.doubtful.iter().map(|(topic, _)| topic).collect::<Vec<_>>(),
                "skipped": plan.skipped.keys().map(ToString::to_string).collect::<Vec<_>>(),
            }));
            return;
        }
        let row = |(at, part): (&TopicPartition, &Part)| {
            let number = output::number;
            let committed = part.committed.map_or_else(|| "-".to_owned(), number);
            vec![at.to_string(), committed, number(part.from), number(part.end), number(part.end - part.from)]
        };
        let header = ["PARTITION", "COMMITTED#", "FROM#", "END#", "OFFSETS#"];
        output::table(&header, plan.parts.iter().map(row).collect());
        let how_long = seconds.map_or_else(
            || "for a time that is not known".to_owned(),
            |seconds| format!("for about {}", plain(for_seconds(seconds))),
        );
        output::line(&format!(
            "\nabout {} records, {} bytes, {how_long} at {} records a second ({by})",
            output::number(records as i64),
            output::number(bytes as i64),
            output::number(speed as i64)
        ));
        let deleted = if plan.deleted.is_empty() { "none".to_owned() } else { plan.deleted.join(", ") };
        output::line(&format!("changelogs that are deleted: {deleted}"));
        for (topic, other) in &plan.doubtful {
            output::line(&format!("    {topic} may be that of {other}: --keep {topic} if it is"));
        }
        if let Some(outside) = &plan.outside {
            let number = |bytes: u64| output::number(i64::try_from(bytes).unwrap_or(i64::MAX));
            let tables =
                outside.tables.iter().map(|of| format!("{} ({} bytes)", of.table, number(of.reserved_bytes)));
            output::line(&format!("tables that are emptied: {}", tables.collect::<Vec<_>>().join(", ")));
        }
        if !plan.skipped.is_empty() {
            let topics: Vec<String> = plan.skipped.keys().map(ToString::to_string).collect();
            output::line(&format!("what is in these is skipped, as it comes again: {}", topics.join(", ")));
        }
        if !self.execute {
            output::line("a plan: nothing is changed without --execute");
        }
    }

    async fn carry_out(&self, client: &Client, plan: &Plan) -> Result<(), Failure> {
        let members = client.describe_group(&self.application).await?.members;
        if !members.is_empty() {
            let what = format!(
                "group {} has {} members: they would go on where they are",
                self.application,
                members.len()
            );
            let next = "stop every instance first, and wait until their sessions end (session_timeout, 10 s)"
                .to_owned();
            return Err(Failure::new(DATA, what, next));
        }
        if let Some((topic, other)) = plan.doubtful.first() {
            let what =
                format!("{topic} may be a changelog of {other} instead of {}, by its name", self.application);
            let next = format!(
                "if it is {other}'s, the same command with --keep {topic}; else delete it first: headwater topic delete {topic} --yes"
            );
            return Err(Failure::new(DATA, what, next));
        }
        let offsets = plan.offsets();
        if let Some(outside) = &plan.outside {
            outside.reset(&offsets).await?;
        }
        for topic in &plan.deleted {
            client.delete_topic(topic).await?;
        }
        client.commit_offsets(&self.application, &offsets).await?;
        Ok(())
    }
}
