//! What a connection has shown of itself in this round.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use headwater_coordinator::{TopicId, Usage, UsageKind};

use super::Sightings;
use crate::api::Call;
use crate::catalog::Topic;
use crate::clock;

/// A connection that uses more topics shows some of them more often.
const MOST: usize = 4096;
/// Of a client's or a group's name, in bytes.
const LONGEST: usize = 255;

/// Of one connection: the round in which each use was last shown.
#[derive(Default)]
pub struct Memo(Mutex<HashMap<(TopicId, UsageKind, u64), u64>>);

impl Memo {
    /// Whether it is the first time in this round.
    fn is_first(&self, key: (TopicId, UsageKind, u64), round: u64) -> bool {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.len() >= MOST {
            shown.clear();
        }
        // Rounds are counted from 1 here, so that the first one is one.
        shown.insert(key, round + 1) != Some(round + 1)
    }
}

/// Clients call themselves what they like, and at any length.
pub fn cut(name: &str) -> String {
    name[..name.floor_char_boundary(LONGEST)].to_owned()
}

impl Call {
    /// The client was allowed to use the topic, `through` a transactional id or a group where it named one.
    pub fn uses(&self, kind: UsageKind, topic: &Topic, through: Option<&str>) {
        let sightings: &Sightings = &self.shared.sightings;
        let client_id = self.client_id.as_ref().map_or("", |id| id.as_str());
        let mut hasher = DefaultHasher::new();
        (client_id, through).hash(&mut hasher);
        if !self.memo.is_first((topic.id(), kind, hasher.finish()), sightings.round()) {
            return;
        }
        let of = Usage {
            topic: topic.name().to_owned(),
            kind,
            principal: self.principal.to_string(),
            client_id: Some(cut(client_id)),
            through: through.filter(|through| !through.is_empty()).map(cut),
        };
        sightings.see(of, clock::wall());
    }

    /// As [`Self::uses`], by id.
    pub fn reads(&self, topic: &TopicId, group: &str) {
        if let Some(topic) = self.shared.catalog.by_id(topic) {
            self.uses(UsageKind::Reader, &topic, Some(group));
        }
    }

    /// As [`Self::uses`], by name.
    pub fn reads_through(&self, topic: &str, group: &str) {
        if let Some(topic) = self.shared.catalog.by_name(topic) {
            self.uses(UsageKind::Reader, &topic, Some(group));
        }
    }
}
