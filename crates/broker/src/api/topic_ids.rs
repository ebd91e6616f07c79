//! Topics that a request names by id (KIP-848's OffsetCommit and OffsetFetch v10) or by name, told back the same way.

use std::collections::HashMap;

use headwater_wire::{KafkaString, KafkaUuid};

use super::{Call, uuid};

/// The topics of one request.
pub struct TopicIds<'a> {
    call: &'a Call,
    by_id: bool,
    /// The id by which each name was asked for.
    ids: HashMap<String, KafkaUuid>,
    /// Ids that no topic has, with the partitions that were asked for.
    pub unknown: Vec<(KafkaUuid, Vec<i32>)>,
}

impl<'a> TopicIds<'a> {
    pub fn new(call: &'a Call, by_id: bool) -> Self {
        Self { call, by_id, ids: HashMap::new(), unknown: Vec::new() }
    }

    /// The topic's name; `None` puts it down as unknown.
    pub fn name(
        &mut self,
        name: &KafkaString,
        id: KafkaUuid,
        partitions: impl FnOnce() -> Vec<i32>,
    ) -> Option<String> {
        if !self.by_id {
            return Some(name.as_str().to_owned());
        }
        let Some(topic) = self.call.shared.catalog.by_id(&id.to_bytes()) else {
            self.unknown.push((id, partitions()));
            return None;
        };
        self.ids.insert(topic.name().to_owned(), id);
        Some(topic.name().to_owned())
    }

    /// How the response calls a topic: by its name or by its id. `None` for one that has been deleted meanwhile.
    pub fn told(&self, name: KafkaString) -> Option<(KafkaString, KafkaUuid)> {
        if !self.by_id {
            return Some((name, KafkaUuid::default()));
        }
        let asked = self.ids.get(name.as_str()).copied();
        let id = asked.or_else(|| Some(uuid(self.call.shared.catalog.by_name(name.as_str())?.id())))?;
        Some((KafkaString::default(), id))
    }
}
