//! Which limit is for a client: the most particular one that there is.

use std::collections::BTreeMap;

use super::entity::{EntityName, Limit, QuotaEntity, QuotaKey, QuotaRecord};

/// All limits, for looking up.
#[derive(Debug, Clone, Default)]
pub struct QuotaTable {
    limits: BTreeMap<QuotaKey, BTreeMap<QuotaEntity, Limit>>,
}

/// A limit for a client, and with whom it is shared: all clients of the same user, of the same id, or of both.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Applies {
    pub limit: f64,
    pub by_user: bool,
    pub by_client_id: bool,
}

impl QuotaTable {
    pub fn put(&mut self, QuotaRecord { entity, key, limit }: QuotaRecord) {
        let limits = self.limits.entry(key).or_default();
        match limit {
            Some(limit) => drop(limits.insert(entity, limit)),
            None => drop(limits.remove(&entity)),
        }
        if limits.is_empty() {
            self.limits.remove(&key);
        }
    }

    /// Whether anybody has such a limit; without one there is nothing to look up.
    pub fn has(&self, key: QuotaKey) -> bool {
        self.limits.contains_key(&key)
    }

    pub fn records(&self) -> impl Iterator<Item = QuotaRecord> {
        self.limits.iter().flat_map(|(key, limits)| {
            limits.iter().map(|(entity, limit)| QuotaRecord {
                entity: entity.clone(),
                key: *key,
                limit: Some(*limit),
            })
        })
    }

    /// In Kafka's order: the user's own limits, with and without the client id, before those of all users, before
    /// those of the client id alone.
    pub fn of_client(&self, key: QuotaKey, user: &str, client_id: &str) -> Option<Applies> {
        let limits = self.limits.get(&key)?;
        let (user, client) = (EntityName::Named(user.to_owned()), EntityName::Named(client_id.to_owned()));
        let default = || Some(EntityName::Default);
        let order = [
            (Some(user.clone()), Some(client.clone())),
            (Some(user.clone()), default()),
            (Some(user), None),
            (default(), Some(client.clone())),
            (default(), default()),
            (default(), None),
            (None, Some(client)),
            (None, default()),
        ];
        order.into_iter().find_map(|(user, client_id)| {
            let (by_user, by_client_id) = (user.is_some(), client_id.is_some());
            let limit = limits.get(&QuotaEntity { user, client_id, ip: None })?;
            Some(Applies { limit: limit.0, by_user, by_client_id })
        })
    }

    /// Connections a second from an address.
    pub fn of_address(&self, ip: &str) -> Option<f64> {
        let limits = self.limits.get(&QuotaKey::ConnectionCreationRate)?;
        let of = |ip| limits.get(&QuotaEntity { user: None, client_id: None, ip: Some(ip) });
        of(EntityName::Named(ip.to_owned())).or_else(|| of(EntityName::Default)).map(|limit| limit.0)
    }
}
