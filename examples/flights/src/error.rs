//! Why the service does not start.

use std::fmt;

use headwater::schema::SchemaError;
use headwater::streams::TopologyError;
use headwater::{AppError, ConfigError, ManifestError, RegistryError};

#[derive(Debug)]
pub enum ServiceError {
    Manifest(ManifestError),
    Config(ConfigError),
    Schema(SchemaError),
    Registry(Box<RegistryError>),
    Topology(TopologyError),
    App(Box<AppError>),
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest(error) => error.fmt(f),
            Self::Config(error) => error.fmt(f),
            Self::Schema(error) => error.fmt(f),
            Self::Registry(error) => error.fmt(f),
            Self::Topology(error) => error.fmt(f),
            Self::App(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ServiceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Manifest(error) => error.source(),
            Self::Config(error) => error.source(),
            Self::Schema(error) => error.source(),
            Self::Registry(error) => error.source(),
            Self::Topology(error) => error.source(),
            Self::App(error) => error.source(),
        }
    }
}

macro_rules! from {
    ($($variant:ident: $error:ty),*) => {
        $(impl From<$error> for ServiceError {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })*
    };
}

from!(Manifest: ManifestError, Config: ConfigError, Schema: SchemaError, Topology: TopologyError);

impl From<AppError> for ServiceError {
    fn from(error: AppError) -> Self {
        Self::App(Box::new(error))
    }
}

impl From<RegistryError> for ServiceError {
    fn from(error: RegistryError) -> Self {
        Self::Registry(Box::new(error))
    }
}
