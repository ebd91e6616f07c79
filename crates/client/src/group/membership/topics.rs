//! What the member that leads has assigned by, and whether there is more by now: nobody else would notice.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Task;
use crate::ClientError;

/// How often a topic that is not there is looked for. It may just have been created, and not be known to every broker.
const MISSING: Duration = Duration::from_secs(1);

/// What was assigned by.
pub(super) struct Led {
    pub(super) topics: Vec<String>,
    /// Of those topics that exist.
    pub(super) partitions: BTreeMap<String, i32>,
}

impl Led {
    /// Whether there is something that nobody was given. What is not there any more says nothing: a broker may be behind.
    fn lacks(&self, now: &BTreeMap<String, i32>) -> bool {
        now.iter().any(|(topic, count)| self.partitions.get(topic).is_none_or(|known| known < count))
    }
}

impl Task {
    /// Returns when there is more to assign than this member, which leads, has assigned; never in one that does not lead.
    pub(super) async fn grown(&self) {
        let Some(led) = self.led.as_ref().filter(|_| self.config.assignor.follows_topics()) else {
            return std::future::pending().await;
        };
        let (group, age) = (&self.config.group_id, self.config.metadata_max_age);
        let pause = if led.partitions.len() < led.topics.len() { age.min(MISSING) } else { age };
        loop {
            tokio::time::sleep(pause).await;
            match self.partition_counts(&led.topics).await {
                Ok(now) if led.lacks(&now) => {
                    tracing::info!(
                        group,
                        "there are more topics or partitions than were assigned: rebalancing"
                    );
                    return;
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(group, %error, "cannot look for more partitions; trying again"),
            }
        }
    }

    /// Of those topics that exist.
    pub(super) async fn partition_counts(
        &self,
        topics: &[String],
    ) -> Result<BTreeMap<String, i32>, ClientError> {
        let answer = self.client.refresh(Some(topics)).await?;
        let known = answer.topics.iter().filter_map(|topic| {
            let name = topic.name.as_ref()?.to_string();
            (!topic.partitions.is_empty()).then_some((name, topic.partitions.len() as i32))
        });
        Ok(known.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_was_given_is_noticed_and_a_broker_that_is_behind_is_not() {
        let counts = |of: &[(&str, i32)]| -> BTreeMap<String, i32> {
            of.iter().map(|(topic, count)| ((*topic).to_owned(), *count)).collect()
        };
        let led = Led { topics: vec!["t".to_owned(), "u".to_owned()], partitions: counts(&[("t", 2)]) };
        assert!(led.lacks(&counts(&[("t", 3)])) && led.lacks(&counts(&[("t", 2), ("u", 1)])));
        assert!(
            !led.lacks(&counts(&[("t", 2)])) && !led.lacks(&counts(&[("t", 1)])) && !led.lacks(&counts(&[]))
        );
    }
}
