//! What can be wrong with a schema, a value or bytes, and where.

use std::fmt::Display;

/// Paths name fields as `/order/items/3`; the empty path is the whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    #[error("the schema is not JSON: {reason}; a primitive type stands in quotes, as in \"string\"")]
    NotJson { reason: String },
    #[error("invalid Avro schema at {}: {reason}", place(.path))]
    Invalid { path: String, reason: String },
    #[error("the schema has {size} bytes, more than the limit of {limit}")]
    TooLarge { size: usize, limit: usize },
    #[error("not an Avro value of this registry: {reason}")]
    NotFramed { reason: &'static str },
    #[error("the value does not fit the schema at {}: {reason}", place(.path))]
    Encode { path: String, reason: String },
    #[error("the bytes are not a value of the schema at {}: {reason}", place(.path))]
    Decode { path: String, reason: String },
    #[error("values of the writer's schema cannot be read at {}: {reason}", place(.path))]
    Unresolvable { path: String, reason: String },
    #[error(
        "{0} is no compatibility level; choose BACKWARD, BACKWARD_TRANSITIVE, FORWARD, FORWARD_TRANSITIVE, FULL, \
         FULL_TRANSITIVE or NONE"
    )]
    UnknownLevel(String),
}

fn place(path: &str) -> &str {
    if path.is_empty() { "its root" } else { path }
}

impl SchemaError {
    pub(crate) fn invalid(reason: impl Display) -> Self {
        Self::Invalid { path: String::new(), reason: reason.to_string() }
    }

    #[cold]
    pub(crate) fn encode(reason: impl Display) -> Self {
        Self::Encode { path: String::new(), reason: reason.to_string() }
    }

    #[cold]
    pub(crate) fn decode(reason: impl Display) -> Self {
        Self::Decode { path: String::new(), reason: reason.to_string() }
    }

    pub(crate) fn unresolvable(reason: impl Display) -> Self {
        Self::Unresolvable { path: String::new(), reason: reason.to_string() }
    }

    /// The same error, found inside of `segment`.
    #[cold]
    pub(crate) fn at(mut self, segment: impl Display) -> Self {
        if let Self::Invalid { path, .. }
        | Self::Encode { path, .. }
        | Self::Decode { path, .. }
        | Self::Unresolvable { path, .. } = &mut self
        {
            *path = format!("/{segment}{path}");
        }
        self
    }
}

impl serde::ser::Error for SchemaError {
    fn custom<T: Display>(message: T) -> Self {
        Self::encode(message)
    }
}

impl serde::de::Error for SchemaError {
    fn custom<T: Display>(message: T) -> Self {
        Self::decode(message)
    }
}
