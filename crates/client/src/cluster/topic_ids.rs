//! What topics are called, by the ids that outlive their names (KIP-516), and what this client may do with them.

use std::collections::HashMap;

use headwater_model::acl::Operation;
use headwater_wire::messages::{MetadataRequestData, MetadataRequestTopic};
use headwater_wire::{ErrorCode, KafkaString, KafkaUuid};

use crate::{Client, ClientError};

impl Client {
    /// The id of a topic, by which it differs from one of the same name that was deleted; `None` where there is no such
    /// topic, or the broker has no ids (Kafka before 2.8).
    pub async fn topic_id(&self, name: &str) -> Result<Option<[u8; 16]>, ClientError> {
        let answer = self.refresh_patiently(Some(&[name.to_owned()])).await?;
        let found = answer.topics.iter().find(|topic| {
            topic.error_code == 0 && topic.name.as_ref().is_some_and(|found| found.as_str() == name)
        });
        Ok(found.map(|topic| topic.topic_id.to_bytes()).filter(|id| *id != [0; 16]))
    }

    /// Whether this client may do that with a topic, by what the broker says of its rights (KIP-430). To ask is no attempt: no
    /// audit tells of a refusal. `false` also for a topic that is not there, or not for this client.
    pub async fn may(&self, operation: Operation, topic: &str) -> Result<bool, ClientError> {
        let asked = MetadataRequestTopic::default().with_name(Some(KafkaString::from(topic.to_owned())));
        let request = MetadataRequestData::default()
            .with_topics(Some(vec![asked]))
            .with_allow_auto_topic_creation(false)
            .with_include_topic_authorized_operations(true);
        let answer = self.look_up(&request).await?;
        let found = answer.topics.iter().find(|found| {
            found.error_code == 0 && found.name.as_ref().is_some_and(|name| name.as_str() == topic)
        });
        Ok(found.is_some_and(|found| found.topic_authorized_operations & (1 << operation.code()) != 0))
    }

    /// Asks a broker. A topic that it does not know, yet or any more, is absent.
    pub(crate) async fn topic_names(
        &self,
        ids: &[KafkaUuid],
    ) -> Result<HashMap<KafkaUuid, String>, ClientError> {
        let asked = |id: &KafkaUuid| MetadataRequestTopic::default().with_topic_id(*id).with_name(None);
        let request = MetadataRequestData::default()
            .with_topics(Some(ids.iter().map(asked).collect()))
            .with_allow_auto_topic_creation(false);
        let answer = self.look_up(&request).await?;
        self.learn(&answer);
        let mut names = HashMap::with_capacity(ids.len());
        for topic in &answer.topics {
            match (ErrorCode::from(topic.error_code), &topic.name) {
                // Whether it has leaders already is the fetcher's business.
                (ErrorCode::None | ErrorCode::LeaderNotAvailable, Some(name)) if !name.is_empty() => {
                    names.insert(topic.topic_id, name.to_string());
                }
                (code, _) => tracing::debug!(id = %topic.topic_id, ?code, "a topic's name is not known"),
            }
        }
        Ok(names)
    }
}
