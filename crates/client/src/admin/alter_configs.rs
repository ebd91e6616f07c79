//! Changing what is configured of a topic (KIP-339): each key by itself, the others stay.

use headwater_wire::ErrorCode;
use headwater_wire::messages::IncrementalAlterConfigsRequestData;
use headwater_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};

use super::{TOPIC_RESOURCE, text};
use crate::{Client, ClientError};

const SET: i8 = 0;
const DELETE: i8 = 1;

impl Client {
    /// Sets keys of a topic, or (`None`) takes back what was set, so that the broker's value counts. All or none.
    ///
    /// # Errors
    /// Those of the broker, which names a key it does not know and a value it does not take.
    pub async fn alter_topic_configs(
        &self,
        name: &str,
        changes: &[(String, Option<String>)],
    ) -> Result<(), ClientError> {
        let change = |(key, value): &(String, Option<String>)| {
            AlterableConfig::default()
                .with_name(text(key))
                .with_config_operation(if value.is_some() { SET } else { DELETE })
                .with_value(value.as_deref().map(text))
        };
        let wanted = AlterConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(text(name))
            .with_configs(changes.iter().map(change).collect());
        let request = IncrementalAlterConfigsRequestData::default().with_resources(vec![wanted]);
        self.ask(&request, |answer| {
            let Some(result) = answer.responses.first() else { return Ok(()) };
            if ErrorCode::from(result.error_code) == ErrorCode::UnknownTopicOrPartition {
                return Err(ClientError::UnknownTopic(name.to_owned()));
            }
            let what = || format!("change the configuration of {name}");
            ClientError::check(result.error_code, result.error_message.as_ref(), what)
        })
        .await
    }
}
