//! `headwater transaction`: ending one that its producer does not end.

use std::process::ExitCode;

use headwater_client::{ClientError, Producer, ProducerConfig};
use serde_json::json;

use super::connect;
use crate::Common;
use crate::output::{self, Failure, NO_INPUT, USAGE};

#[derive(clap::Subcommand)]
pub enum Transaction {
    /// Abort what is open, and fence its producer
    Abort {
        transactional_id: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

impl Transaction {
    pub async fn run(self, common: &Common) -> Result<ExitCode, Failure> {
        let Transaction::Abort { transactional_id, yes } = self;
        if !yes {
            return Err(Failure::new(
                USAGE,
                format_args!(
                    "aborting drops what {transactional_id} wrote since its last commit, and its producer, if it still runs, must start again"
                ),
                format!("headwater transaction abort {transactional_id} --yes"),
            ));
        }
        let client = connect(common).await?;
        let was_open = match client.describe_transaction(&transactional_id).await {
            Ok(Some(known)) => known.is_open(),
            Ok(None) => {
                return Err(Failure::new(
                    NO_INPUT,
                    format_args!("no producer has come with the transactional id {transactional_id}"),
                    "headwater doctor names what is open".to_owned(),
                ));
            }
            // Apache Kafka before 3.0 does not say.
            Err(ClientError::TooOld { .. }) => true,
            Err(error) => return Err(error.into()),
        };
        // A producer of the same id ends the transaction of the one before, as after a crash.
        let config =
            ProducerConfig { transactional_id: Some(transactional_id.clone()), ..ProducerConfig::default() };
        drop(Producer::new(&client, config).await?);
        match common.json {
            true => output::json(&json!({ "aborted": transactional_id, "was_open": was_open })),
            false => {
                let done = if was_open { "aborted what was open of" } else { "nothing was open of" };
                output::line(&format!("{done} {transactional_id}; its producer is fenced"));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
