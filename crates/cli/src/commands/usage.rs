//! Who produces to a topic and who consumes from it, as its broker has seen them.

use headwater_client::{Client, ClientError};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::output;

/// Headwater's broker answers it like a configuration key; Apache Kafka knows no such key.
const KEY: &str = "headwater.usage";

#[derive(Deserialize)]
pub struct Usage {
    uses: Vec<Use>,
    left_out: u64,
    dropped: u64,
}

#[derive(Deserialize)]
struct Use {
    kind: String,
    principal: String,
    /// `None` for further client ids of the principal.
    client_id: Option<String>,
    transactional_ids: Vec<String>,
    groups: Vec<String>,
    first_seen: i64,
    last_seen: i64,
}

/// `None` where the broker does not record it.
pub async fn of(client: &Client, topic: &str) -> Result<Option<Usage>, ClientError> {
    let entry = client.topic_config(topic, KEY).await?;
    let text = entry.and_then(|entry| entry.value);
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| time.to_string())
}

impl Usage {
    fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Use> {
        self.uses.iter().filter(move |one| one.kind == kind)
    }

    /// The fields of `--json`.
    pub fn json(&self) -> Value {
        let writer = |one: &Use| {
            json!({
                "principal": one.principal, "client_id": one.client_id, "transactional_ids": one.transactional_ids,
                "first_seen": one.first_seen, "last_seen": one.last_seen,
            })
        };
        let reader = |one: &Use| {
            json!({
                "principal": one.principal, "client_id": one.client_id, "groups": one.groups,
                "first_seen": one.first_seen, "last_seen": one.last_seen,
            })
        };
        json!({
            "writers": self.of_kind("writer").map(writer).collect::<Vec<_>>(),
            "readers": self.of_kind("reader").map(reader).collect::<Vec<_>>(),
            "left_out": self.left_out,
            "dropped": self.dropped,
        })
    }

    fn table(&self, kind: &str, header: &[&str], through: impl Fn(&Use) -> &[String]) {
        let row = |one: &Use| {
            let through = match through(one) {
                [] => "-".to_owned(),
                [one] => one.clone(),
                [one, more @ ..] => format!("{one} and {} more", more.len()),
            };
            let client = one.client_id.clone().unwrap_or_else(|| "(further client ids)".to_owned());
            vec![one.principal.clone(), client, through, time(one.first_seen), time(one.last_seen)]
        };
        let rows: Vec<_> = self.of_kind(kind).map(row).collect();
        output::line("");
        match rows.is_empty() {
            true => output::line(&format!("no {kind} has been seen")),
            false => output::table(header, rows),
        }
    }

    pub fn print(&self) {
        let writers = ["WRITER", "CLIENT ID", "TRANSACTIONAL ID", "FIRST SEEN", "LAST SEEN"];
        let readers = ["READER", "CLIENT ID", "GROUP", "FIRST SEEN", "LAST SEEN"];
        self.table("writer", &writers, |one| &one.transactional_ids);
        self.table("reader", &readers, |one| &one.groups);
        if self.left_out > 0 {
            output::line(&format!("{} more were not seen as lately as these", self.left_out));
        }
        if self.dropped > 0 {
            output::line(&format!(
                "incomplete: the broker had no room to record {} sightings since it started",
                self.dropped
            ));
        }
    }
}
