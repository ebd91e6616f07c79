//! `headwater schema`: what the registry knows.

use std::path::PathBuf;
use std::process::ExitCode;

use headwater_registry::RegistryError;
use serde_json::json;

use crate::Common;
use crate::output::{self, DATA, Failure, NO_INPUT};

/// The HTTP status of a schema that does not fit those before it.
const INCOMPATIBLE: u16 = 409;

#[derive(clap::Subcommand)]
pub enum Schema {
    /// All subjects
    List,
    /// The latest schema of a subject
    Get { subject: String },
    /// Register an Avro schema under a subject
    Register { subject: String, file: PathBuf },
    /// Would this schema be accepted? Exit code 1 when not
    Check { subject: String, file: PathBuf },
}

fn read(file: &PathBuf) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| {
        let next = "name a file with an Avro schema in JSON".to_owned();
        Failure::new(NO_INPUT, format_args!("reading {}: {error}", file.display()), next)
    })
}

impl Schema {
    pub async fn run(self, common: &Common) -> Result<ExitCode, Failure> {
        let registry = common.registry()?;
        match self {
            Schema::List => {
                for subject in registry.subjects().await? {
                    if common.json {
                        output::json(&json!({ "subject": subject }));
                    } else {
                        output::line(&subject);
                    }
                }
            }
            Schema::Get { subject } => {
                let latest = registry.latest(&subject).await?;
                if common.json {
                    output::json(
                        &json!({ "subject": subject, "id": latest.id, "version": latest.version, "schema": latest.schema }),
                    );
                } else {
                    output::line(&latest.schema);
                }
            }
            Schema::Register { subject, file } => {
                let id = registry.register(&subject, &read(&file)?).await.map_err(|error| match error {
                    RegistryError::Refused { status: INCOMPATIBLE, .. } => {
                        let next = format!("headwater schema check {subject} {}", file.display());
                        Failure::new(DATA, error, next)
                    }
                    other => other.into(),
                })?;
                if common.json {
                    output::json(&json!({ "subject": subject, "id": id }));
                } else {
                    output::line(&format!("{subject} has id {id}"));
                }
            }
            Schema::Check { subject, file } => {
                let problems = registry.check(&subject, &read(&file)?).await?;
                let compatible = problems.is_empty();
                if common.json {
                    output::json(
                        &json!({ "subject": subject, "compatible": compatible, "messages": problems }),
                    );
                } else if compatible {
                    output::line("compatible");
                } else {
                    output::line(&format!("not compatible with {subject}:"));
                    problems.iter().for_each(|problem| output::line(&format!("  {problem}")));
                }
                return Ok(if compatible { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
