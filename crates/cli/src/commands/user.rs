//! `headwater user`: who may come by SCRAM or PLAIN.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use headwater_client::{ErrorCode, Secret};
use serde_json::json;

use super::connect;
use crate::Common;
use crate::output::{self, DATA, Failure, NO_INPUT, USAGE};

#[derive(clap::Subcommand)]
pub enum User {
    /// Add a user, or give one another password
    Add {
        name: String,
        /// A file with the password; `-` for standard input
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
    },
    /// All users that the broker keeps
    List,
    /// Take a user's password away; connections that are open stay open
    Delete {
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

impl User {
    pub async fn run(self, common: &Common) -> Result<ExitCode, Failure> {
        match self {
            User::Add { name, password_file } => {
                let password = password(&password_file)?;
                connect(common).await?.set_password(&name, &password).await?;
                say(common, &name, "added");
            }
            User::List => {
                let users = connect(common).await?.users().await?;
                if common.json {
                    for user in users {
                        output::json(&json!({ "user": user.name, "mechanisms": user.mechanisms }));
                    }
                } else {
                    let rows = users.into_iter().map(|user| vec![user.name, user.mechanisms.join(", ")]);
                    output::table(&["USER", "MECHANISMS"], rows.collect());
                }
            }
            User::Delete { name, yes: false } => {
                return Err(Failure::new(
                    USAGE,
                    format_args!("{name} could not come any more, and its password would be gone"),
                    format!("headwater user delete {name} --yes"),
                ));
            }
            User::Delete { name, yes: true } => {
                connect(common).await?.delete_user(&name).await.map_err(|error| match error.code() {
                    Some(ErrorCode::ResourceNotFound) => {
                        Failure::new(NO_INPUT, error, "headwater user list".to_owned())
                    }
                    _ => Failure::from(error),
                })?;
                say(common, &name, "deleted");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn say(common: &Common, name: &str, done: &str) {
    match common.json {
        true => output::json(&json!({ "user": name, "done": done })),
        false => output::line(&format!("{done} user {name}")),
    }
}

/// The first line of a file.
fn password(file: &Path) -> Result<Secret, Failure> {
    let text = match file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(file),
    };
    let text = text.map_err(|error| {
        let what = format!("the password in {} cannot be read: {error}", file.display());
        Failure::new(NO_INPUT, what, "--password-file FILE, or - for standard input".to_owned())
    })?;
    match text.lines().next().map(str::trim) {
        Some(password) if !password.is_empty() => Ok(Secret::new(password)),
        _ => Err(Failure::new(
            DATA,
            format_args!("{} holds no password", file.display()),
            "write it in the first line of the file".to_owned(),
        )),
    }
}
