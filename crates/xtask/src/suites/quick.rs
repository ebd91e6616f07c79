//! A short part of the foreign suites.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::{Choice, go, node, one};

/// A suite whose program is not here, or too old, is left out with a line that says how to get it; in CI that is a failure.
pub fn run(headwater: Option<PathBuf>) -> Result<()> {
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    let choice = Choice { quick: true, headwater, ..Choice::default() };
    one("librdkafka", &choice)?;
    for (suite, missing) in [("node", node::missing()), ("go", go::missing())] {
        match missing {
            Some(missing) if ci => bail!("{suite}: {missing}"),
            Some(missing) => eprintln!("skipped: {suite}'s clients: {missing}"),
            None => one(suite, &choice)?,
        }
    }
    Ok(())
}
