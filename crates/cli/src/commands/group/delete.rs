//! `headwater group delete`: groups and what they have committed.

use std::process::ExitCode;

use headwater_client::{Client, ErrorCode, GroupListing};
use serde_json::json;

use super::unknown_group;
use crate::Common;
use crate::output::{self, DATA, Failure, USAGE};

/// All of them, or none when one is not there, has members, or is not asked for with `--yes`.
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
    if let Some(used) = listed.iter().find(|one| groups.contains(&one.group_id) && is_in_use(one)) {
        return Err(has_members(&used.group_id));
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
            Some(ErrorCode::NonEmptyGroup) => has_members(&group),
            _ => Failure::from(error),
        })?;
        match common.json {
            true => output::json(&json!({ "deleted": group })),
            false => output::line(&format!("deleted {group}")),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Groups that nobody is a member of; brokers before Apache Kafka 2.6 say no state, and refuse by themselves.
fn is_in_use(group: &GroupListing) -> bool {
    !matches!(group.state.as_str(), "Empty" | "Dead" | "")
}

fn has_members(group: &str) -> Failure {
    Failure::new(
        DATA,
        format_args!("group {group} has members, and is not deleted while they run"),
        format!("stop them: headwater group describe {group} names them"),
    )
}
