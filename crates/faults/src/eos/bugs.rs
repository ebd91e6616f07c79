//! The mistakes that can be planted in the service (docs/reliability.md names them), each of which must be found.

use anyhow::{Result, bail};
use headwater_client::planted::{self, Bug};

pub const BUGS: &[(&str, Bug)] = &[
    ("commit-before-output", Bug::CommitBeforeOutput),
    ("store-before-commit", Bug::StoreBeforeCommit),
    ("position-before-entries", Bug::PositionBeforeEntries),
    ("restore-too-little", Bug::RestoreTooLittle),
    ("restore-aborted", Bug::RestoreAborted),
    ("commit-of-any-member", Bug::CommitOfAnyMember),
    ("go-on-when-fenced", Bug::GoOnWhenFenced),
    ("trust-wiped-store", Bug::TrustWipedStore),
];

/// Makes the mistake of this name, if one is given, in this process.
pub fn plant(name: Option<&str>) -> Result<()> {
    let Some(name) = name else { return Ok(()) };
    let Some((_, bug)) = BUGS.iter().find(|(known, _)| *known == name) else {
        let names: Vec<&str> = BUGS.iter().map(|(name, _)| *name).collect();
        bail!("no mistake is called {name}: {}", names.join(", "));
    };
    if !planted::plant(Some(*bug)) {
        bail!("--plant needs `--features planted-bugs`; see docs/reliability.md");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_in_the_documentation() {
        let book = include_str!("../../../../docs/reliability.md");
        for (name, bug) in BUGS {
            let both =
                |line: &str| line.contains(&format!("`{name}`")) && line.contains(&format!("`{bug:?}`"));
            assert!(book.lines().any(both), "{name} plants {bug:?}");
        }
    }
}
