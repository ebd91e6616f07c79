//! What a service declares about itself, and what follows from it.
//!
//! Owns the manifest `headwater.toml` and the errors that explain it. Refuses I/O other than reading that one file: plans
//! and permissions are computed from manifests, not observed here.

mod document;
mod error;
mod manifest;

pub use error::ManifestError;
pub use manifest::{
    GroupProtocol, Guarantee, Input, Internal, Manifest, Output, RuntimeSettings, Service, Stream,
};
