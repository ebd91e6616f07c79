//! What the events of a stream are (`--kind`): a configuration of the topic on Headwater's broker, which then refuses
//! what does not fit, and an entry `topic/NAME` in `_headwater.catalog` on every broker.

use headwater_client::{Client, NewTopic};
use headwater_model::{CATALOG, StreamKind};

use crate::output::{self, Failure};

pub const KEY: &str = "headwater.stream.kind";

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Facts without a key
    Unkeyed,
    /// Facts about what the key names
    Keyed,
    /// States: the last one of each key counts, a null value deletes; compacted
    Entity,
}

impl Kind {
    pub fn name(self) -> &'static str {
        StreamKind::from(self).name()
    }
}

impl From<Kind> for StreamKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Unkeyed => Self::Unkeyed,
            Kind::Keyed => Self::Keyed,
            Kind::Entity => Self::Entity,
        }
    }
}

/// Creates a topic of a kind; says whether its broker enforces it.
pub async fn create(
    client: &Client,
    wanted: &NewTopic,
    configs: &[(String, String)],
    kind: Kind,
) -> Result<bool, Failure> {
    let topic = |own: bool| {
        let mut topic = wanted.clone();
        if own {
            topic = topic.config(KEY, kind.name());
        } else if kind == Kind::Entity && !configs.iter().any(|(key, _)| key == "cleanup.policy") {
            topic = topic.config("cleanup.policy", "compact");
        }
        configs.iter().fold(topic, |topic, (key, value)| topic.config(key, value))
    };
    let enforced = match client.create_topic(topic(true)).await {
        Ok(_) => true,
        // Apache Kafka does not know the key.
        Err(error) if error.to_string().contains(KEY) && !error.to_string().contains("cleanup.policy") => {
            client.create_topic(topic(false)).await?;
            false
        }
        Err(error) => return Err(error.into()),
    };
    if let Err(error) = client.announce_kind(&wanted.name, kind.into()).await {
        let name = &wanted.name;
        let what = format!("{name} is created, and {CATALOG} does not say of what kind it is: {error}");
        if !enforced {
            let next = format!("headwater topic delete {name} --yes, and again as who may write {CATALOG}");
            return Err(Failure { what, next: Some(next), ..Failure::from(error) });
        }
        // The broker knows it, which is what counts here.
        output::note(&what);
    }
    Ok(enforced)
}
