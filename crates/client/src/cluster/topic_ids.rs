//! What topics are called, by the ids that outlive their names (KIP-516).

use std::collections::HashMap;

use headwater_wire::messages::{MetadataRequestData, MetadataRequestTopic};
use headwater_wire::{ErrorCode, KafkaUuid};

use crate::{Client, ClientError};

impl Client {
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
