//! How much of a rate may be used at once, by Kafka's keys.

use headwater_coordinator::{QuotaKey, Windows};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaConfig {
    /// `quota.window.num` and `quota.window.size.seconds`
    pub clients: WindowConfig,
    /// `controller.quota.window.num` and `controller.quota.window.size.seconds`
    pub controller: WindowConfig,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowConfig {
    pub number: i64,
    pub seconds: i64,
}

impl Default for WindowConfig {
    fn default() -> Self {
        Self { number: 11, seconds: 1 }
    }
}

impl Default for QuotaConfig {
    fn default() -> Self {
        let windows = WindowConfig::default();
        Self { clients: windows, controller: windows }
    }
}

impl QuotaConfig {
    pub fn of(self, key: QuotaKey) -> Windows {
        let WindowConfig { number, seconds } = match key {
            QuotaKey::ControllerMutationRate => self.controller,
            _ => self.clients,
        };
        Windows { number, length_ms: seconds.saturating_mul(1000) }
    }
}
