//! `headwater group delete`: groups and what they have committed.

use std::process::ExitCode;

use headwater_client::{Client, ErrorCode};
use serde_json::json;

use super::unknown_group;
use crate::Common;
use crate::output::{self, DATA, Failure, USAGE};

/// All of them, or none when one is not there or not asked for with `--yes`.
pub async fn run(
    client: &Client,
    common: &Common,
    groups: Vec<String>,
    yes: bool,
) -> Result<ExitCode, Failure> {
    let listed = client.list_groups().await?;
    if let Some(missing) = groups.iter().find(|group| listed.iter().all(|one| one.group_id != **group)) {
        return Err(unknown_group(missing));
    }
    if !yes {
        let names = groups.join(" ");
        return Err(Failure::new(
            USAGE,
            format_args!("deleting {names} removes what it has committed for ever: its readers begin anew"),
            format!("headwater group describe {}, then headwater group delete {names} --yes", groups[0]),
        ));
    }
    output::to_the_end();
    for group in groups {
        client.delete_group(&group).await.map_err(|error| match error.code() {
            Some(ErrorCode::NonEmptyGroup) => Failure::new(
                DATA,
                format_args!("group {group} has members, and is not deleted while they run"),
                format!("stop them: headwater group describe {group} names them"),
            ),
            _ => Failure::from(error),
        })?;
        match common.json {
            true => output::json(&json!({ "deleted": group })),
            false => output::line(&format!("deleted {group}")),
        }
    }
    Ok(ExitCode::SUCCESS)
}
