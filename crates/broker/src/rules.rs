//! The rules, quotas and features as connections see them: those that are on disk, read without a lock.
//!
//! The engine publishes after the commit that carries a change; a reader keeps what it has loaded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use headwater_coordinator::{AclIndex, FeatureRecord, Features, QuotaRecord, QuotaTable};
use headwater_model::acl::AclBinding;

/// A change of them, made when its commit is on disk.
#[derive(Debug)]
pub enum RuleChange {
    Put(AclBinding),
    Remove(AclBinding),
    Quota(QuotaRecord),
    Feature(FeatureRecord),
}

/// The access rules, to be listed and to be looked up.
#[derive(Debug, Clone, Default)]
pub struct Acls {
    pub bindings: std::collections::BTreeSet<AclBinding>,
    pub index: AclIndex,
}

#[derive(Debug, Default)]
pub struct Rules {
    acls: ArcSwap<Acls>,
    quotas: ArcSwap<QuotaTable>,
    features: ArcSwap<Features>,
    version: AtomicU64,
}

impl Rules {
    pub fn acls(&self) -> arc_swap::Guard<Arc<Acls>> {
        self.acls.load()
    }

    pub fn quotas(&self) -> arc_swap::Guard<Arc<QuotaTable>> {
        self.quotas.load()
    }

    pub fn features(&self) -> arc_swap::Guard<Arc<Features>> {
        self.features.load()
    }

    /// Grows with every change.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Only the engine's thread calls it.
    pub fn apply(&self, changes: Vec<RuleChange>) {
        if changes.is_empty() {
            return;
        }
        let mut acls = Acls::clone(&self.acls.load());
        let mut quotas = QuotaTable::clone(&self.quotas.load());
        let mut features = Features::clone(&self.features.load());
        for change in changes {
            match change {
                RuleChange::Put(acl) => {
                    acls.index.insert(&acl);
                    acls.bindings.insert(acl);
                }
                RuleChange::Remove(acl) => {
                    acls.index.remove(&acl);
                    acls.bindings.remove(&acl);
                }
                RuleChange::Quota(record) => quotas.put(record),
                RuleChange::Feature(record) => features.put(record),
            }
        }
        self.acls.store(Arc::new(acls));
        self.quotas.store(Arc::new(quotas));
        self.features.store(Arc::new(features));
        self.version.fetch_add(1, Ordering::Release);
    }
}
