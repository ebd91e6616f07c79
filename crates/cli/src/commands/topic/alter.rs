//! `headwater topic alter`: settings of a topic, each by itself, and more partitions.

use headwater_client::{Client, ConfigEntry};
use serde_json::json;

use super::super::unknown_topic;
use super::key_value;
use crate::Common;
use crate::output::{self, DATA, Failure, USAGE};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  headwater topic alter orders --config retention.ms=86400000\n  headwater topic alter orders --delete-config retention.ms\n  headwater topic alter orders --partitions 12 --yes"
)]
pub struct Alter {
    name: String,
    /// Kafka's topic configuration, for example retention.ms=86400000; may repeat
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = key_value)]
    config: Vec<(String, String)>,
    /// Take back what was set, so that the broker's value counts; may repeat
    #[arg(long, value_name = "KEY")]
    delete_config: Vec<String>,
    /// How many partitions there are to be: more than before. Keys go to other partitions from then on
    #[arg(long, short, value_name = "N")]
    partitions: Option<i32>,
    /// Do not ask: more partitions cannot be taken back
    #[arg(long)]
    yes: bool,
}

impl Alter {
    pub async fn run(self, client: &Client, common: &Common) -> Result<(), Failure> {
        let name = &self.name;
        if self.config.is_empty() && self.delete_config.is_empty() && self.partitions.is_none() {
            let next = format!("headwater topic alter {name} --config retention.ms=86400000");
            let what = "what is to change? --config, --delete-config or --partitions says so";
            return Err(Failure::new(USAGE, what, next));
        }
        let Some(topic) = client.topic(name).await? else { return Err(unknown_topic(name)) };
        if let Some(wanted) = self.partitions {
            self.check_partitions(topic.partitions, wanted)?;
        }
        let set = self.config.iter().map(|(key, value)| (key.clone(), Some(value.clone())));
        let changes: Vec<_> = set.chain(self.delete_config.iter().map(|key| (key.clone(), None))).collect();
        let undo = if changes.is_empty() {
            None
        } else {
            let before = client.topic_configs(name).await?;
            client.alter_topic_configs(name, &changes).await?;
            undo(name, &changes, &before)
        };
        if let Some(wanted) = self.partitions {
            client.create_partitions(name, wanted).await?;
        }
        if common.json {
            let configs: serde_json::Map<_, _> =
                changes.into_iter().map(|(key, value)| (key, value.into())).collect();
            output::json(&json!({
                "altered": name, "configs": configs, "partitions": self.partitions, "undo": undo,
            }));
            return Ok(());
        }
        let undo = undo.map(|undo| format!("; undo: {undo}")).unwrap_or_default();
        output::line(&format!("altered {name}{undo}"));
        if let Some(wanted) = self.partitions {
            output::line(&format!("{name} has {wanted} partitions, of which none can be taken back"));
        }
        Ok(())
    }

    fn check_partitions(&self, now: i32, wanted: i32) -> Result<(), Failure> {
        let name = &self.name;
        if wanted <= now {
            let what = format!("{name} has {}, and can only have more", output::count(now, "partition"));
            let next = format!("headwater topic alter {name} --partitions {}, or a new topic", now + 1);
            return Err(Failure::new(DATA, what, next));
        }
        if !self.yes {
            let what = format!(
                "{wanted} partitions instead of {now} cannot be taken back, and keys go to other partitions than before: who counts on their order, or joins by them, notices"
            );
            let next = format!("headwater topic alter {name} --partitions {wanted} --yes");
            return Err(Failure::new(USAGE, what, next));
        }
        Ok(())
    }
}

/// The command that brings back what was set before.
fn undo(name: &str, changes: &[(String, Option<String>)], before: &[ConfigEntry]) -> Option<String> {
    let back = |(key, now): &(String, Option<String>)| {
        let was = before.iter().find(|entry| entry.name == *key && entry.is_own);
        let was = was.and_then(|entry| entry.value.clone());
        match was {
            same if same == *now => None,
            Some(value) => Some(format!(" --config {}", quoted(&format!("{key}={value}")))),
            None => Some(format!(" --delete-config {key}")),
        }
    };
    let back: String = changes.iter().filter_map(back).collect();
    (!back.is_empty()).then(|| format!("headwater topic alter {name}{back}"))
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    match word.chars().all(|c| c.is_ascii_alphanumeric() || "=.,:_-/".contains(c)) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}
