//! What the records of a stream are, and which of them do not fit.

/// The compacted topic that says what streams and services there are. A stream's entry has the key
/// `topic/NAME` and the value `{"kind": "entity"}`.
pub const CATALOG: &str = "_headwater.catalog";

/// What one record of the topic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StreamKind {
    /// Nobody said; every record is taken.
    #[default]
    Unspecified,
    /// A statement of fact that belongs to no key.
    Unkeyed,
    /// A fact about what its key names; older ones stay true.
    Keyed,
    /// The state of what its key names; the latest value is the one that holds, none is a tombstone.
    Entity,
}

impl StreamKind {
    /// The kind of this name, as the configuration spells it.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "unspecified" => Self::Unspecified,
            "unkeyed" => Self::Unkeyed,
            "keyed" => Self::Keyed,
            "entity" => Self::Entity,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Unkeyed => "unkeyed",
            Self::Keyed => "keyed",
            Self::Entity => "entity",
        }
    }

    /// What is wrong with a record of the topic, in the words of whoever refuses it; none when it fits.
    pub fn refuses(self, has_key: bool, has_value: bool) -> Option<&'static str> {
        match (self, has_key) {
            (Self::Unkeyed, true) => Some(
                "headwater.stream.kind=unkeyed takes no keys: send it without one, or set the kind to keyed",
            ),
            (Self::Keyed, false) => Some("headwater.stream.kind=keyed needs a key in every record"),
            (Self::Keyed, true) if !has_value => Some(
                "headwater.stream.kind=keyed takes no null values: a fact is not deleted; tombstones belong in an entity topic",
            ),
            (Self::Entity, false) => {
                Some("headwater.stream.kind=entity needs the entity's id as key of every record")
            }
            _ => None,
        }
    }
}
