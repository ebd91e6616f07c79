//! Whom a quota is for, and what it limits.

use serde::{Deserialize, Serialize};

/// A user, a client id, a user's client id, or an address; each by name or by default. At least one is there, and an
/// address is alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QuotaEntity {
    pub user: Option<EntityName>,
    pub client_id: Option<EntityName>,
    pub ip: Option<EntityName>,
}

/// Kafka's default is for each that has none of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EntityName {
    Default,
    Named(String),
}

impl EntityName {
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Default => None,
            Self::Named(name) => Some(name),
        }
    }
}

/// One limit is set; or taken away, without a limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaRecord {
    pub entity: QuotaEntity,
    pub key: QuotaKey,
    pub limit: Option<Limit>,
}

/// So much a second; finite and not negative.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Limit(pub f64);

impl PartialEq for Limit {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Limit {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum QuotaKey {
    ProducerByteRate,
    ConsumerByteRate,
    /// Of one thread's time.
    RequestPercentage,
    /// Partitions that are created and deleted.
    ControllerMutationRate,
    ConnectionCreationRate,
}

impl QuotaKey {
    pub const ALL: [Self; 5] = [
        Self::ProducerByteRate,
        Self::ConsumerByteRate,
        Self::RequestPercentage,
        Self::ControllerMutationRate,
        Self::ConnectionCreationRate,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::ProducerByteRate => "producer_byte_rate",
            Self::ConsumerByteRate => "consumer_byte_rate",
            Self::RequestPercentage => "request_percentage",
            Self::ControllerMutationRate => "controller_mutation_rate",
            Self::ConnectionCreationRate => "connection_creation_rate",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    /// Addresses have a limit of their own, and no other.
    pub(super) fn is_of(self, entity: &QuotaEntity) -> bool {
        entity.ip.is_some() == (self == Self::ConnectionCreationRate)
    }

    pub(super) fn limit(self, value: f64) -> Result<Limit, String> {
        let is_whole = !matches!(self, Self::RequestPercentage | Self::ControllerMutationRate);
        match value {
            value if !value.is_finite() || value <= 0.0 => {
                Err(format!("{} must be above 0, not {value}", self.name()))
            }
            value if is_whole && value.fract().abs() > 1e-6 => {
                Err(format!("{} must be a whole number, not {value}", self.name()))
            }
            value => Ok(Limit(value)),
        }
    }
}

const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";

impl QuotaEntity {
    /// From types and names as Kafka's messages have them.
    pub fn read(parts: &[(String, Option<String>)]) -> Result<Self, String> {
        let mut entity = Self { user: None, client_id: None, ip: None };
        for (kind, name) in parts {
            let place = entity.place(kind)?;
            if place.is_some() {
                return Err(format!("the entity has two of '{kind}'"));
            }
            *place = Some(match name.as_deref() {
                None => EntityName::Default,
                Some("") => {
                    return Err(format!("the name of '{kind}' is empty: leave it out for the default"));
                }
                Some(name) => EntityName::Named(name.to_owned()),
            });
        }
        match (&entity.user, &entity.client_id, &entity.ip) {
            (None, None, None) => Err("the entity is empty: name a user, a client-id or an ip".to_owned()),
            (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
                Err("an ip stands alone in an entity".to_owned())
            }
            _ => Ok(entity),
        }
    }

    /// Whether there are entities of this type.
    pub fn has_kind(kind: &str) -> bool {
        matches!(kind, USER | CLIENT_ID | IP)
    }

    fn place(&mut self, kind: &str) -> Result<&mut Option<EntityName>, String> {
        match kind {
            USER => Ok(&mut self.user),
            CLIENT_ID => Ok(&mut self.client_id),
            IP => Ok(&mut self.ip),
            other => Err(format!("'{other}' is no type of entity: use {USER}, {CLIENT_ID} or {IP}")),
        }
    }

    /// Types and names, as Kafka's messages have them.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, Option<&str>)> {
        let all = [(USER, &self.user), (CLIENT_ID, &self.client_id), (IP, &self.ip)];
        all.into_iter().filter_map(|(kind, name)| Some((kind, name.as_ref()?.name())))
    }
}

/// What an entity must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntityFilter {
    Exactly(String),
    Default,
    /// Any name, or the default.
    Any,
}

/// Which entities are meant: those with all of these parts, and with no others when it is strict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QuotaFilter {
    parts: Vec<(String, EntityFilter)>,
    strict: bool,
}

impl QuotaFilter {
    pub fn new(parts: Vec<(String, EntityFilter)>, strict: bool) -> Result<Self, String> {
        let mut entity = QuotaEntity { user: None, client_id: None, ip: None };
        for (kind, _) in &parts {
            let place = entity.place(kind)?;
            if place.replace(EntityName::Default).is_some() {
                return Err(format!("the filter has two of '{kind}'"));
            }
        }
        match entity.ip.is_some() && parts.len() > 1 {
            true => Err("an ip stands alone in a filter".to_owned()),
            false => Ok(Self { parts, strict }),
        }
    }

    pub fn matches(&self, entity: &QuotaEntity) -> bool {
        let has = |(kind, wanted): &(String, EntityFilter)| {
            let found = entity.parts().find(|(own, _)| own == kind);
            match (found, wanted) {
                (Some((_, name)), EntityFilter::Exactly(wanted)) => name == Some(wanted),
                (Some((_, name)), EntityFilter::Default) => name.is_none(),
                (Some(_), EntityFilter::Any) => true,
                (None, _) => false,
            }
        };
        self.parts.iter().all(has) && (!self.strict || entity.parts().count() == self.parts.len())
    }
}
