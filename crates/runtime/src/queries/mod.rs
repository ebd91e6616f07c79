//! Questions about the state of an application, whichever instance has it (KIP-67, KIP-535, KIP-796).
//!
//! - `hosts`: who has what, as the group's leader told; `serving`: what may be read here, and how far it is.
//! - `ask`: what instances say to each other; `route`: who answers; `local`: answers for what is here; `remote`: asks others.
//! - `position`, `upstream`: read your own writes. `failure`: why there is no answer. `client`: all of it from Rust.

pub(crate) mod ask;
mod client;
mod failure;
mod hosts;
mod local;
mod position;
pub(crate) mod remote;
pub(crate) mod route;
mod serving;
mod typed;
mod upstream;

pub use ask::{Place, QueryResultInfo, Role};
pub use client::Queries;
pub use failure::StateQueryError;
pub use hosts::{HostTasks, KeyQueryMetadata};
pub use position::{Position, PositionError};
pub use serving::Staleness;
pub use typed::{Row, StateQueryResult, StoreQueries};

pub(crate) use failure::Merged;
pub(crate) use hosts::{HostMap, Hosts};
pub(crate) use serving::{Seen, Serving};
pub(crate) use upstream::Flows;
