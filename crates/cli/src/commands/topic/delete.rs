//! `headwater topic delete`: topics, and with `--internal` those that something hangs on.

use headwater_client::Client;
use headwater_model::CATALOG;
use serde_json::json;

use super::super::unknown_topic;
use crate::Common;
use crate::output::{self, Failure, USAGE};

/// All of them, or none when one is not there or not asked for as it has to be.
pub async fn run(
    client: &Client,
    common: &Common,
    names: &[String],
    yes: bool,
    internal: bool,
) -> Result<(), Failure> {
    for name in names {
        let Some(topic) = client.topic(name).await? else { return Err(unknown_topic(name)) };
        if let Some(hangs) = hangs_on(name, topic.internal).filter(|_| !internal) {
            return Err(Failure::new(
                USAGE,
                format_args!("{name} is no topic like others: {hangs}"),
                format!(
                    "leave it; or, if that is what is wanted, headwater topic delete {name} --yes --internal"
                ),
            ));
        }
    }
    let all = names.join(" ");
    if !yes {
        let (records, more) =
            (if names.len() == 1 { "its" } else { "their" }, if internal { " --internal" } else { "" });
        return Err(Failure::new(
            USAGE,
            format_args!("deleting {all} removes {records} records for ever"),
            format!("headwater topic delete {all} --yes{more}"),
        ));
    }
    output::to_the_end();
    for name in names {
        client.delete_topic(name).await?;
        let withdrawn = if name == CATALOG { Ok(()) } else { client.withdraw_kind(name).await };
        match common.json {
            true => output::json(&json!({ "deleted": name })),
            false => output::line(&format!("deleted {name}")),
        }
        // It is gone all the same, and the others are to go, too.
        if let Err(error) = withdrawn {
            output::note(&format!("what {CATALOG} says of {name}, if anything, stays there: {error}"));
        }
    }
    Ok(())
}

/// What would be lost with a topic that somebody else's work is kept in.
fn hangs_on(name: &str, internal: bool) -> Option<&'static str> {
    match name {
        "_schemas" => {
            Some("the registry keeps all schemas in it, and without them no Avro event can be read")
        }
        "__consumer_offsets" => Some("groups keep in it how far they have read, and would begin anew"),
        "__transaction_state" => Some(
            "open transactions are kept in it, and what they wrote would be neither committed nor aborted",
        ),
        CATALOG => Some(
            "kinds of streams, services and connectors are told in it; producers would keep to no kind any more",
        ),
        "_headwater.audit" => Some("it tells who was refused what, and who changed what"),
        "_headwater.connectors" => Some("sources keep in it how far they have read, and would begin anew"),
        other if other.starts_with("_headwater.") => Some("Headwater keeps records of its own in it"),
        other if internal || other.starts_with("__") => Some("the broker keeps records of its own in it"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_with_an_underscore_is_not_internal_for_that() {
        for own in ["_schemas", "__share_group_state", "_headwater.catalog", "_headwater.new"] {
            assert!(hangs_on(own, false).is_some(), "{own}");
        }
        for other in ["_mine", "orders", "schemas"] {
            assert!(hangs_on(other, false).is_none(), "{other}");
        }
        assert!(hangs_on("shares", true).is_some());
    }
}
