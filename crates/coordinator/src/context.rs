//! What every decision is given besides state: limits, the time of the call, randomness, and the list of effects.

use headwater_model::TimestampMs;

use crate::Effect;
use crate::broker_configs::BrokerConfigs;
use crate::error::Failure;
use crate::records::{StateRecord, TopicId, TopicPartitionId};
use crate::request::AlterBrokerConfig;
use crate::response::Response;
use crate::settings::Settings;
use crate::sight::Sights;

#[derive(Debug)]
pub(crate) struct Context {
    pub settings: Settings,
    pub broker_configs: BrokerConfigs,
    pub sights: Sights,
    pub random: Random,
    /// The time of the current call.
    pub now: TimestampMs,
    pub effects: Vec<Effect>,
}

impl Context {
    pub fn new(settings: Settings) -> Self {
        let random = Random(settings.seed);
        let broker_configs = BrokerConfigs::new(settings.topic_defaults.clone());
        Self { settings, broker_configs, sights: Sights::default(), random, now: 0, effects: Vec::new() }
    }

    pub fn append(&mut self, record: StateRecord) {
        self.effects.push(Effect::Append(record));
    }

    pub fn alter_broker(&mut self, change: AlterBrokerConfig, validate_only: bool) -> Result<(), Failure> {
        let broker = change.broker;
        let configs = self.broker_configs.altered(change)?;
        if !validate_only {
            self.broker_configs.put(broker, configs.clone());
            self.append(StateRecord::BrokerConfigs { broker, configs });
        }
        Ok(())
    }

    pub fn wake(&mut self, partition: TopicPartitionId) {
        self.effects.push(Effect::Wake(partition));
    }

    pub fn reply(&mut self, ticket: u64, response: Response) {
        self.effects.push(Effect::Reply { ticket, response });
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough for ids that must differ, not for secrets.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A UUID of version 4 (RFC 9562).
    pub fn uuid(&mut self) -> TopicId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_be_bytes());
        bytes[8..].copy_from_slice(&self.next().to_be_bytes());
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        bytes
    }

    /// The UUID in its usual spelling.
    pub fn uuid_text(&mut self) -> String {
        let bits = u128::from_be_bytes(self.uuid());
        let part = |shift: u32, digits: u32| (bits >> shift) & ((1 << (4 * digits)) - 1);
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            part(96, 8),
            part(80, 4),
            part(64, 4),
            part(48, 4),
            part(0, 12)
        )
    }
}
