//! The embedded broker: Kafka's protocol over TCP, on one write-ahead log.
//!
//! Owns listeners, connections and the engine thread. Every connection is one task; every write goes through
//! one thread, the [`engine`], which owns the log and the coordinator; reads go to the log directly.
//!
//! Invariant: nothing is answered before the commit that carries it is on disk, and nothing that a client
//! sends can cost more than its own connection.
//!
//! Deliberately absent: replication (one node leads everything).

mod addresses;
mod advertised;
mod api;
mod audit;
mod authorizer;
mod broker;
mod catalog;
mod cleaner;
mod clock;
mod cold;
mod config;
mod connection;
mod directory;
mod engine;
mod error;
mod foreign;
mod frame;
mod gate;
mod listener;
mod memory;
mod mirror;
mod observe;
mod opening;
mod outgoing;
mod owners;
mod planted;
mod quota;
mod rules;
mod schemas;
mod security;
mod sendfile;
mod sending;
mod settings;
mod usage;
mod waiters;

pub use addresses::AddressLimits;
pub use api::{ABSENT, NARROWER, ServedApi, served};
pub use authorizer::{AuthorizerConfig, PolicyError, STANDARD_AUTHORIZER};
pub use broker::Broker;
pub use cleaner::CleanerConfig;
pub use cold::{ColdActivity, Objects as ColdObjects};
pub use config::Config;
pub use error::StartError;
pub use gate::{Gate, Known, Places, Unauthenticated, guarded};
pub use headwater_coordinator::Settings as CoordinatorSettings;
pub use headwater_log::Settings as LogSettings;
pub use observe::{
    Diagnosis, Exporter, FamilyInfo, Finding, Health, Looked, Observer, Place, Severity, families,
};
pub use opening::ListenerAddress;
pub use quota::{QuotaConfig, WindowConfig};
pub use security::{InternalUser, ListenerError, SecurityConfig, SecurityError, Stranger};
pub use settings::{BROKER_SETTINGS, BrokerSetting, SettingError};

/// The id of the only node.
const NODE_ID: i32 = 1;
