//! What is in the way of a streams group, as the broker tells its members with each heartbeat.

use std::time::Duration;

use headwater_wire::messages::streams_group_heartbeat_response::Status;

use crate::ClientError;

/// How long a topic may be missing that has been created just now, or is being created.
const TOPIC_PATIENCE: Duration = Duration::from_secs(60);

/// Kafka's codes, in their order.
const NAMES: [&str; 6] = [
    "STALE_TOPOLOGY",
    "MISSING_SOURCE_TOPICS",
    "INCORRECTLY_PARTITIONED_TOPICS",
    "MISSING_INTERNAL_TOPICS",
    "SHUTDOWN_APPLICATION",
    "ASSIGNMENT_DELAYED",
];

/// One status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Obstacle {
    code: i8,
    detail: String,
}

impl Obstacle {
    pub(super) fn all(statuses: Option<Vec<Status>>) -> Vec<Self> {
        let all = statuses.unwrap_or_default().into_iter();
        all.map(|one| Self { code: one.status_code, detail: one.status_detail.to_string() }).collect()
    }

    /// `None` for those of brokers to come: they are told and keep nothing from going on.
    fn name(&self) -> Option<&'static str> {
        NAMES.get(usize::try_from(self.code).ok()?).copied()
    }

    pub(super) fn described(&self) -> String {
        format!("{}: {}", self.name().unwrap_or("a status that this version does not know"), self.detail)
    }

    /// Whether tasks come as soon as it is gone.
    pub(super) fn delays(&self) -> bool {
        matches!(
            self.name(),
            Some("MISSING_SOURCE_TOPICS" | "MISSING_INTERNAL_TOPICS" | "ASSIGNMENT_DELAYED")
        )
    }

    /// The error that it is after this time, if nothing but an operator helps.
    pub(super) fn error(&self, group: &str, since: Duration) -> Option<ClientError> {
        let status = self.name()?;
        let next = match status {
            "STALE_TOPOLOGY" => {
                "another version of the application runs in this group: start that one here, too"
            }
            "MISSING_SOURCE_TOPICS" if since >= TOPIC_PATIENCE => {
                "create the topics (headwater topic create), or start what writes them, and start again"
            }
            "MISSING_INTERNAL_TOPICS" if since >= TOPIC_PATIENCE => {
                "let the application CREATE and DESCRIBE its topics (headwater acl list shows who may), or create them, and start again"
            }
            "INCORRECTLY_PARTITIONED_TOPICS" => {
                "stop every instance, give the topics the partitions that they need (an internal one whose state may be rebuilt can be deleted), and start again"
            }
            "SHUTDOWN_APPLICATION" => {
                "look into the logs of that member, and start again when its trouble is gone"
            }
            _ => return None,
        };
        Some(ClientError::Streams { group: group.to_owned(), status, detail: self.detail.clone(), next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn obstacle(name: &str) -> Obstacle {
        let code = NAMES.iter().position(|known| *known == name).unwrap() as i8;
        Obstacle { code, detail: "words of the broker".to_owned() }
    }

    #[test]
    fn topics_that_are_missing_have_a_while_to_come_and_wrong_ones_have_not() {
        let fails = |name: &str, since| obstacle(name).error("g", since).is_some();
        for name in ["MISSING_SOURCE_TOPICS", "MISSING_INTERNAL_TOPICS"] {
            assert!(!fails(name, Duration::from_secs(1)) && fails(name, TOPIC_PATIENCE), "{name}");
        }
        for name in ["STALE_TOPOLOGY", "INCORRECTLY_PARTITIONED_TOPICS", "SHUTDOWN_APPLICATION"] {
            assert!(fails(name, Duration::ZERO), "{name}");
        }
        assert!(!fails("ASSIGNMENT_DELAYED", TOPIC_PATIENCE * 10));
        assert!(Obstacle { code: 77, detail: String::new() }.error("g", TOPIC_PATIENCE).is_none());
    }

    #[test]
    fn the_error_has_the_brokers_words_and_what_to_do() {
        let error = obstacle("INCORRECTLY_PARTITIONED_TOPICS").error("orders", Duration::ZERO).unwrap();
        let text = error.to_string();
        for part in ["orders", "INCORRECTLY_PARTITIONED_TOPICS", "words of the broker", "stop every instance"]
        {
            assert!(text.contains(part), "{text}");
        }
    }
}
