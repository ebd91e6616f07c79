//! A short part of the foreign suites.

use anyhow::Result;

use super::{Choice, go, node, one};

/// Suites whose program is not here, or too old, are left out with a line: what `.ci/run` installs is not missing.
pub fn run() -> Result<()> {
    let choice = Choice { quick: true, ..Choice::default() };
    one("librdkafka", &choice)?;
    for (suite, missing) in [("node", node::missing()), ("go", go::missing())] {
        match missing {
            Some(missing) => eprintln!("suites: {suite} is left out: {missing}"),
            None => one(suite, &choice)?,
        }
    }
    Ok(())
}
