//! What the registry answers when it refuses: Confluent's error codes and texts, in one table.

use headwater_model::acl::{Operation, ResourceType};
use headwater_schema::SchemaError;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("Subject '{0}' not found.")]
    SubjectNotFound(String),
    #[error("Version {0} not found.")]
    VersionNotFound(String),
    #[error("Schema not found")]
    SchemaNotFound,
    #[error("Schema {0} not found")]
    IdNotFound(u32),
    #[error("Subject '{0}' was soft deleted. Set permanent=true to delete permanently")]
    SubjectSoftDeleted(String),
    #[error("Subject '{0}' was not deleted first before being permanently deleted")]
    SubjectNotSoftDeleted(String),
    #[error("Subject '{0}' Version {1} was soft deleted. Set permanent=true to delete permanently")]
    VersionSoftDeleted(String, i32),
    #[error("Subject '{0}' Version {1} was not deleted first before being permanently deleted")]
    VersionNotSoftDeleted(String, i32),
    #[error("Subject '{0}' does not have subject-level compatibility configured")]
    LevelNotConfigured(String),
    #[error("Invalid schema: {0}")]
    InvalidSchema(String),
    #[error(
        "The specified version '{0}' is not a valid version id. Allowed values are between [1, 2^31-1] and the string \"latest\""
    )]
    InvalidVersion(String),
    #[error(
        "Invalid compatibility level '{0}'. Valid values are none, backward, forward, full, backward_transitive, \
         forward_transitive, and full_transitive"
    )]
    InvalidLevel(String),
    #[error(
        "Invalid subject '{0}': a subject is not empty, has no control characters, and does not begin with \":.\""
    )]
    InvalidSubject(String),
    #[error("Schema being registered is incompatible with an earlier schema for subject \"{subject}\", details: [{}]", .reasons.join(", "))]
    Incompatible { subject: String, reasons: Vec<String> },
    #[error("The body is not the JSON object that is expected here: {0}")]
    BadRequest(String),
    #[error("User is denied operation {operation} on {kind} {name}, and on _schemas")]
    NotAllowed { operation: Operation, kind: ResourceType, name: String },
    #[error("Error in the backend Kafka store: {0}")]
    Store(String),
    #[error("Operation timed out: {0}")]
    TimedOut(String),
}

impl Refusal {
    /// HTTP status and Confluent's `error_code`.
    pub fn codes(&self) -> (u16, i32) {
        match self {
            Self::BadRequest(_) => (400, 400),
            Self::NotAllowed { .. } => (403, 40301),
            Self::SubjectNotFound(_) => (404, 40401),
            Self::VersionNotFound(_) => (404, 40402),
            Self::SchemaNotFound | Self::IdNotFound(_) => (404, 40403),
            Self::SubjectSoftDeleted(_) => (404, 40404),
            Self::SubjectNotSoftDeleted(_) => (404, 40405),
            Self::VersionSoftDeleted(..) => (404, 40406),
            Self::VersionNotSoftDeleted(..) => (404, 40407),
            Self::LevelNotConfigured(_) => (404, 40408),
            Self::Incompatible { .. } => (409, 409),
            Self::InvalidSchema(_) => (422, 42201),
            Self::InvalidVersion(_) => (422, 42202),
            Self::InvalidLevel(_) => (422, 42203),
            Self::InvalidSubject(_) => (422, 42208),
            Self::Store(_) => (500, 50001),
            Self::TimedOut(_) => (500, 50002),
        }
    }
}

impl From<SchemaError> for Refusal {
    fn from(error: SchemaError) -> Self {
        Self::InvalidSchema(error.to_string())
    }
}
