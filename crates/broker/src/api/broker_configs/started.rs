//! What the broker was started with, in the types and with the defaults that Kafka has for the same keys.

use headwater_coordinator::{BrokerLayer, ConfigKind};

use super::Entry;
use crate::{BROKER_SETTINGS, BrokerSetting, Config};

/// Types that do not follow from how a key is read here.
const KINDS: [(&str, ConfigKind); 13] = [
    ("advertised.listeners", ConfigKind::List),
    ("connections.max.reauth.ms", ConfigKind::Long),
    ("listeners", ConfigKind::List),
    ("sasl.enabled.mechanisms", ConfigKind::List),
    ("sasl.login.connect.timeout.ms", ConfigKind::Int),
    ("sasl.login.read.timeout.ms", ConfigKind::Int),
    ("sasl.oauthbearer.clock.skew.seconds", ConfigKind::Int),
    ("sasl.oauthbearer.expected.audience", ConfigKind::List),
    ("sasl.oauthbearer.jwks.endpoint.refresh.ms", ConfigKind::Long),
    ("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", ConfigKind::Long),
    ("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", ConfigKind::Long),
    // As Kafka has them, though a certificate is no secret.
    ("ssl.keystore.certificate.chain", ConfigKind::Password),
    ("ssl.truststore.certificates", ConfigKind::Password),
];

/// What holds where nothing is said, of keys whose text is read where it is used.
const DEFAULTS: [(&str, &str); 10] = [
    ("sasl.login.connect.timeout.ms", "5000"),
    ("sasl.login.read.timeout.ms", "5000"),
    ("sasl.oauthbearer.clock.skew.seconds", "30"),
    ("sasl.oauthbearer.expected.audience", ""),
    ("sasl.oauthbearer.jwks.endpoint.refresh.ms", "3600000"),
    ("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", "10000"),
    ("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", "100"),
    ("sasl.oauthbearer.sub.claim.name", "sub"),
    ("ssl.client.auth", "none"),
    ("ssl.principal.mapping.rules", "DEFAULT"),
];

fn of<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(key, _)| *key == name).map(|(_, found)| *found)
}

pub(super) fn started(config: &Config) -> impl Iterator<Item = Entry> {
    let unset = Config::default();
    BROKER_SETTINGS.iter().map(move |setting| entry(setting, config, &unset))
}

fn entry(setting: &BrokerSetting, config: &Config, unset: &Config) -> Entry {
    let (value, unset) = (setting.value(config), setting.value(unset));
    let is_set = value != unset;
    let values = match setting.name {
        // `--listen` says the same.
        "listeners" if !is_set => vec![(BrokerLayer::Start, format!("PLAINTEXT://{}", config.listen))],
        "advertised.listeners" if !is_set => {
            let told = config.advertised.iter().map(|address| format!("PLAINTEXT://{address}"));
            told.map(|address| (BrokerLayer::Start, address)).collect()
        }
        _ if is_set => vec![(BrokerLayer::Start, value)],
        _ => Vec::new(),
    };
    let default = match setting.is_text() {
        true => of(&DEFAULTS, setting.name).map(str::to_owned),
        false => Some(unset),
    };
    Entry {
        name: setting.name,
        values,
        default,
        kind: of(&KINDS, setting.name).unwrap_or_else(|| setting.config_kind()),
        documentation: setting.documentation,
        read_only: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_key_is_said_of_one_that_there_is() {
        let is_there = |name: &str| BROKER_SETTINGS.iter().find(|setting| setting.name == name);
        for name in KINDS.iter().map(|(name, _)| name).chain(DEFAULTS.iter().map(|(name, _)| name)) {
            assert!(is_there(name).is_some(), "{name}");
        }
        for (name, _) in DEFAULTS {
            assert!(
                is_there(name).is_some_and(BrokerSetting::is_text),
                "{name} has its default in its own table"
            );
        }
    }

    #[test]
    fn what_is_not_set_has_its_default_or_nothing_and_where_clients_come_in_is_told() {
        let find = |config: &Config, name: &str| {
            let entry = started(config).find(|entry| entry.name == name).unwrap();
            entry.values.first().map(|(_, value)| value.clone()).or(entry.default)
        };
        let mut config = Config::default();
        assert_eq!(find(&config, "ssl.client.auth").as_deref(), Some("none"));
        assert_eq!(find(&config, "ssl.keystore.location"), None);
        assert_eq!(find(&config, "num.partitions").as_deref(), Some("1"));
        assert_eq!(find(&config, "listeners").as_deref(), Some("PLAINTEXT://127.0.0.1:9092"));
        config.set("listeners=SSL://127.0.0.1:9093").unwrap();
        assert_eq!(find(&config, "listeners").as_deref(), Some("SSL://127.0.0.1:9093"));
    }
}
