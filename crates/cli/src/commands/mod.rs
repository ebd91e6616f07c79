//! One file a command.

pub mod acl;
pub mod backup;
pub mod dead_letters;
pub mod demo;
pub mod doctor;
pub mod external;
pub mod group;
pub mod http;
pub mod kind;
pub mod migrate;
pub mod moment;
pub mod produce;
pub mod quarantine;
pub mod reprocess;
pub mod restore;
pub mod sample;
pub mod schema;
pub mod tail;
pub mod topic;
pub mod topology;
pub mod transaction;
pub mod up;
pub mod usage;
pub mod user;

use std::time::{Duration, Instant};

use headwater_client::{Client, ClientConfig, TopicInfo};

use crate::output::Failure;
use crate::{Common, waiting};

/// A client of the cluster that `--bootstrap` names; what it waits for is told.
pub async fn connect(common: &Common) -> Result<Client, Failure> {
    let config = ClientConfig::new(common.bootstrap(), "headwater-cli").security(common.security()?);
    let answer = format!("an answer of {}", common.bootstrap());
    let client = waiting::with(&answer, Client::connect(config)).await?;
    waiting::watch(&client);
    Ok(client)
}

/// So long a topic may take from its creation to where another broker knows its leaders.
const NEWS: Duration = Duration::from_secs(2);
const LOOKS: Duration = Duration::from_millis(100);

/// A topic, also one that has just been created.
pub async fn known_topic(client: &Client, name: &str) -> Result<TopicInfo, Failure> {
    let begun = Instant::now();
    loop {
        match client.topic(name).await? {
            Some(topic) => return Ok(topic),
            None if begun.elapsed() > NEWS => return Err(unknown_topic(name)),
            None => tokio::time::sleep(LOOKS).await,
        }
    }
}

/// "There is no …, did you mean …?"
pub fn unknown_topic(name: &str) -> Failure {
    Failure::new(
        crate::output::NO_INPUT,
        format_args!("there is no topic {name}"),
        format!("headwater topic list, or headwater topic create {name}"),
    )
}
