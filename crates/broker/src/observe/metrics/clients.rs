//! Clients: their connections, what they may take, and what they are refused.

use prometheus_client::registry::Unit;

use super::family::{Family, Read, family, of};

pub fn memory() -> Vec<Family> {
    use Read::{Counter, Gauge};
    let bytes = Some(Unit::Bytes);
    vec![
        family(
            "headwater_memory_limit",
            bytes.clone(),
            "What the requests and answers of all connections may take (headwater.memory.bytes)",
            Gauge(|s| s.shared.memory.limit() as f64),
        ),
        family("headwater_memory_used", bytes, "What they take", Gauge(|s| s.shared.memory.used() as f64)),
        family(
            "headwater_memory_cut_connections",
            None,
            "Connections closed because others waited for the memory of their slow requests or answers",
            Counter(|s| s.shared.memory.given_up() as f64),
        ),
    ]
}

pub fn families() -> Vec<Family> {
    use Read::{Counter, Gauge};
    vec![
        family(
            "headwater_connections",
            None,
            "Open client connections",
            Gauge(|s| {
                (s.shared.config.max_connections
                    - s.shared.connections.available_permits().min(s.shared.config.max_connections))
                    as f64
            }),
        ),
        family(
            "headwater_connections_limit",
            None,
            "Further connections are refused",
            Gauge(|s| s.shared.config.max_connections as f64),
        ),
        family(
            "headwater_denied",
            None,
            "Refusals by the authorizer",
            Counter(|s| of(&s.shared.audit.denied)),
        ),
        family(
            "headwater_throttles",
            None,
            "Answers after which a channel was mute because of a quota, and connections that were refused by one",
            Counter(|s| of(&s.shared.quotas.throttles)),
        ),
        family(
            "headwater_throttle_time",
            Some(Unit::Seconds),
            "For how long in all",
            Counter(|s| of(&s.shared.quotas.throttled_ms) / 1e3),
        ),
        family(
            "headwater_audit_lost",
            None,
            "Lines that the audit stream lost because they came faster than it writes",
            Counter(|s| of(&s.shared.audit.lost)),
        ),
        family(
            "headwater_usage_dropped",
            None,
            "Sightings of clients that produce or consume that found no room in the record of who does",
            Counter(|s| s.shared.sightings.dropped() as f64),
        ),
    ]
}
