//! One file a command.

pub mod acl;
pub mod backup;
pub mod dead_letters;
pub mod demo;
pub mod doctor;
pub mod external;
pub mod group;
pub mod kind;
pub mod migrate;
pub mod produce;
pub mod quarantine;
pub mod reprocess;
pub mod restore;
pub mod sample;
pub mod schema;
pub mod tail;
pub mod topic;
pub mod topology;
pub mod transaction;
pub mod up;
pub mod usage;
pub mod user;

use headwater_client::{Client, ClientConfig};

use crate::Common;
use crate::output::Failure;

/// A client of the cluster that `--bootstrap` names.
pub async fn connect(common: &Common) -> Result<Client, Failure> {
    let config = ClientConfig::new(common.bootstrap(), "headwater-cli").security(common.security()?);
    Ok(Client::connect(config).await?)
}

/// "There is no …, did you mean …?"
pub fn unknown_topic(name: &str) -> Failure {
    Failure::new(
        crate::output::NO_INPUT,
        format_args!("there is no topic {name}"),
        format!("headwater topic list, or headwater topic create {name}"),
    )
}
