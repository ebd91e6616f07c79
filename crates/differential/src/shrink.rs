//! Makes a differing case small: events that are not needed for the difference are taken out.

use anyhow::Result;

use crate::case::Case;
use crate::compare::{Compared, compare};
use crate::differs;
use crate::java::Java;

pub struct Smallest {
    pub case: Case,
    pub compared: Compared,
}

/// A case that is drawn again is the same; one that fails to run is not made smaller.
pub fn shrink(mut case: Case, java: &mut Java) -> Result<Smallest> {
    let rows = java.ask(&case)?;
    let mut compared = compare(&case, rows)?;
    let mut size = case.program.events.len() / 2;
    while size > 0 {
        let mut from = 0;
        while from < case.program.events.len() {
            let mut fewer = case.clone();
            let to = (from + size).min(fewer.program.events.len());
            fewer.program.events.drain(from..to);
            let found = java.ask(&fewer).and_then(|rows| compare(&fewer, rows));
            match found {
                Ok(found) if differs(&found.verdict) => (case, compared) = (fewer, found),
                _ => from += size,
            }
        }
        size /= 2;
    }
    Ok(Smallest { case, compared })
}
