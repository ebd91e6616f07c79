//! The database of an application's external stores, as `reprocess` resets it.

use std::collections::HashMap;

use headwater_client::Committed;
use headwater_model::TopicPartition;
use headwater_runtime::external::{External, ExternalDatabase, ExternalError, TableSize};

use crate::output::{Failure, NO_INPUT, UNAVAILABLE};

/// What the database has of an application.
pub struct Outside {
    external: External,
    application: String,
    pub tables: Vec<TableSize>,
    positions: HashMap<TopicPartition, Committed>,
}

fn failed(error: ExternalError) -> Failure {
    Failure::new(UNAVAILABLE, error, None)
}

/// Drivers wait for their answers.
async fn ask<T: Send + 'static>(
    external: &External,
    question: impl FnOnce(&dyn ExternalDatabase) -> Result<T, ExternalError> + Send + 'static,
) -> Result<T, Failure> {
    let external = external.clone();
    let asked = tokio::task::spawn_blocking(move || question(external.database())).await;
    asked.map_err(|ended| Failure::new(UNAVAILABLE, ended, None))?.map_err(failed)
}

impl Outside {
    pub async fn look(url: &str, application: &str) -> Result<Self, Failure> {
        let external = headwater_external::open(url).map_err(failed)?;
        let id = application.to_owned();
        let (tables, positions) =
            ask(&external, move |database| Ok((database.sizes(&id)?, database.positions(&id)?))).await?;
        if tables.is_empty() {
            let what = format!("{} has no stores of application {application}", external.database().name());
            let next =
                "name the database that the application is started with, or leave --external out".to_owned();
            return Err(Failure::new(NO_INPUT, what, next));
        }
        Ok(Self { external, application: application.to_owned(), tables, positions })
    }

    /// Empties the tables and sets the positions of what is read again; the others stay.
    pub async fn reset(&self, offsets: &HashMap<TopicPartition, Committed>) -> Result<(), Failure> {
        let mut positions = self.positions.clone();
        for (at, position) in &mut positions {
            if let Some(reset) = offsets.get(at) {
                position.clone_from(reset);
            }
        }
        let id = self.application.clone();
        ask(&self.external, move |database| database.reset(&id, &positions)).await
    }
}
