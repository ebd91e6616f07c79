//! Client quotas: which there are, whom each is for, and the arithmetic of keeping them.
//!
//! Owns the limits (KIP-13, KIP-124, KIP-257, KIP-546, KIP-599, KIP-612) and their precedence; refuses to know who is
//! connected and what it does: the broker asks a [`QuotaTable`] with its own copy, and keeps [`Samples`] or a [`Bucket`] a
//! client.

mod bucket;
mod entity;
mod samples;
mod table;

use std::collections::BTreeMap;
use std::net::IpAddr;

pub use bucket::Bucket;
pub use entity::{EntityFilter, EntityName, Limit, QuotaEntity, QuotaFilter, QuotaKey, QuotaRecord};
pub use samples::{Samples, Windows};
pub use table::{Applies, QuotaTable};

use crate::context::Context;
use crate::error::{Error, Failure};
use crate::records::StateRecord;

/// Changes of one entity's limits; `None` takes a limit away.
#[derive(Debug, Clone, PartialEq)]
pub struct QuotaAlteration {
    /// Type and name as they came; no name is the default.
    pub entity: Vec<(String, Option<String>)>,
    pub changes: Vec<(String, Option<f64>)>,
}

type Limits = BTreeMap<QuotaKey, Limit>;

#[derive(Debug, Default)]
pub(crate) struct Quotas {
    entities: BTreeMap<QuotaEntity, Limits>,
}

impl Quotas {
    pub fn put(&mut self, record: QuotaRecord) {
        let QuotaRecord { entity, key, limit } = record;
        match limit {
            Some(limit) => drop(self.entities.entry(entity).or_default().insert(key, limit)),
            None => {
                if let Some(limits) = self.entities.get_mut(&entity) {
                    limits.remove(&key);
                    if limits.is_empty() {
                        self.entities.remove(&entity);
                    }
                }
            }
        }
    }

    /// Every limit there is.
    pub fn iter(&self) -> impl Iterator<Item = QuotaRecord> {
        self.entities.iter().flat_map(|(entity, limits)| {
            limits.iter().map(|(key, limit)| QuotaRecord {
                entity: entity.clone(),
                key: *key,
                limit: Some(*limit),
            })
        })
    }

    /// One result an entity: all of its changes, or none.
    pub fn alter(
        &mut self,
        cx: &mut Context,
        wanted: Vec<QuotaAlteration>,
        validate_only: bool,
    ) -> Vec<Result<(), Failure>> {
        let mut results = Vec::with_capacity(wanted.len());
        for alteration in wanted {
            let checked = checked(&alteration);
            results.push(checked.map(|records| {
                for record in records {
                    if !validate_only && self.changes(&record) {
                        self.put(record.clone());
                        cx.append(StateRecord::Quota(record));
                    }
                }
            }));
        }
        results
    }

    fn changes(&self, record: &QuotaRecord) -> bool {
        self.entities.get(&record.entity).and_then(|limits| limits.get(&record.key)).copied() != record.limit
    }
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(Error::InvalidRequest, message)
}

fn checked(alteration: &QuotaAlteration) -> Result<Vec<QuotaRecord>, Failure> {
    let entity = QuotaEntity::read(&alteration.entity).map_err(invalid)?;
    if let Some(EntityName::Named(ip)) = &entity.ip
        && ip.parse::<IpAddr>().is_err()
    {
        return Err(invalid(format!(
            "'{ip}' is not an IP address: write one, or leave the name out for the default"
        )));
    }
    let mut records: Vec<QuotaRecord> = Vec::with_capacity(alteration.changes.len());
    for (name, value) in &alteration.changes {
        let Some(key) = QuotaKey::parse(name).filter(|key| key.is_of(&entity)) else {
            let known: Vec<_> =
                QuotaKey::ALL.iter().filter(|key| key.is_of(&entity)).map(|key| key.name()).collect();
            return Err(invalid(format!("'{name}' is no quota of such an entity: use {}", known.join(", "))));
        };
        if records.iter().any(|record| record.key == key) {
            return Err(invalid(format!("{name} is named twice")));
        }
        let limit = value.map(|value| key.limit(value)).transpose().map_err(invalid)?;
        records.push(QuotaRecord { entity: entity.clone(), key, limit });
    }
    Ok(records)
}
