//! Whether records must be what the registry's schemas say: `headwater.schema.enforce`, and Confluent's own keys for it.

use crate::configs::{ConfigKey, ConfigKind, Legal, key};
use crate::records::TopicRecord;

pub(crate) const ENFORCE: &str = "headwater.schema.enforce";
const STRATEGY: &str = "headwater.schema.subject.strategy";
const KEY: &str = "confluent.key.schema.validation";
const KEY_STRATEGY: &str = "confluent.key.subject.name.strategy";
const VALUE: &str = "confluent.value.schema.validation";
const VALUE_STRATEGY: &str = "confluent.value.subject.name.strategy";

const STRATEGIES: &[&str] = &["TopicName", "RecordName", "TopicRecordName"];
const CLASSES: &[&str] = &[
    "io.confluent.kafka.serializers.subject.TopicNameStrategy",
    "io.confluent.kafka.serializers.subject.RecordNameStrategy",
    "io.confluent.kafka.serializers.subject.TopicRecordNameStrategy",
];

const fn switch(name: &'static str, documentation: &'static str) -> ConfigKey {
    key(name, ConfigKind::Boolean, "false", Legal::Boolean, documentation)
}

const fn class(name: &'static str, documentation: &'static str) -> ConfigKey {
    key(name, ConfigKind::String, CLASSES[0], Legal::OneOf(CLASSES), documentation)
}

pub(crate) const KEY_SWITCH: ConfigKey = switch(KEY, "As headwater.schema.enforce=key, by Confluent's name.");
pub(crate) const KEY_CLASS: ConfigKey = class(
    KEY_STRATEGY,
    "As headwater.schema.subject.strategy for keys, by Confluent's name; where it is set, it is the one that counts.",
);
pub(crate) const VALUE_SWITCH: ConfigKey =
    switch(VALUE, "As headwater.schema.enforce=value, by Confluent's name.");
pub(crate) const VALUE_CLASS: ConfigKey = class(
    VALUE_STRATEGY,
    "As headwater.schema.subject.strategy for values, by Confluent's name; where it is set, it is the one that counts.",
);
pub(crate) const ENFORCED: ConfigKey = key(
    ENFORCE,
    ConfigKind::String,
    "none",
    Legal::OneOf(&["none", "value", "key", "both"]),
    "What of a record must be written by a schema of the registry: a record without a schema id, with one that is not of the subject, or that does not decode by it is refused. Nulls pass.",
);
pub(crate) const SUBJECTS: ConfigKey = key(
    STRATEGY,
    ConfigKind::String,
    "TopicName",
    Legal::OneOf(STRATEGIES),
    "Which subject a schema must belong to: 'TopicName' TOPIC-value or TOPIC-key, 'RecordName' the schema's full name, 'TopicRecordName' TOPIC-NAME.",
);

/// How a subject is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectStrategy {
    TopicName,
    RecordName,
    TopicRecordName,
}

/// By which subjects keys and values are judged; `None` where they are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Enforcement {
    pub key: Option<SubjectStrategy>,
    pub value: Option<SubjectStrategy>,
}

impl SubjectStrategy {
    fn parse(name: &str) -> Self {
        let at = |list: &[&str]| list.iter().position(|known| *known == name);
        match at(STRATEGIES).or_else(|| at(CLASSES)) {
            Some(1) => Self::RecordName,
            Some(2) => Self::TopicRecordName,
            _ => Self::TopicName,
        }
    }
}

impl Enforcement {
    pub(crate) fn of(topic: &TopicRecord) -> Self {
        let part = |ours: &str, confluents: &str, strategy: &str| {
            let asked = topic.config(ENFORCE) == ours || topic.config(ENFORCE) == "both";
            let named = topic.configs.get(strategy).map_or(topic.config(STRATEGY), String::as_str);
            (asked || topic.config(confluents) == "true").then(|| SubjectStrategy::parse(named))
        };
        Self { key: part("key", KEY, KEY_STRATEGY), value: part("value", VALUE, VALUE_STRATEGY) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker_configs::BrokerConfigs;

    fn of(configs: &[(&str, &str)]) -> Enforcement {
        let configs = configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        TopicRecord { name: "t".into(), id: [1; 16], partitions: 1, configs }
            .settings(&BrokerConfigs::default())
            .enforcement
    }

    #[test]
    fn both_ways_of_saying_it_are_understood() {
        use SubjectStrategy::{RecordName, TopicName, TopicRecordName};
        assert_eq!(of(&[]), Enforcement::default());
        assert_eq!(of(&[(ENFORCE, "value")]), Enforcement { key: None, value: Some(TopicName) });
        let both = of(&[(ENFORCE, "both"), (STRATEGY, "RecordName")]);
        assert_eq!(both, Enforcement { key: Some(RecordName), value: Some(RecordName) });
        let confluents = of(&[(KEY, "true"), (KEY_STRATEGY, CLASSES[2]), (ENFORCE, "value")]);
        assert_eq!(confluents, Enforcement { key: Some(TopicRecordName), value: Some(TopicName) });
    }
}
