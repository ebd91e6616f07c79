//! The second directory of the log.

use headwater_log::Standing;
use prometheus_client::registry::Unit;

use super::family::{Family, Read, family, of};

pub fn families() -> Vec<Family> {
    use Read::{Counter, Gauge};
    vec![
        family(
            "headwater_mirror_complete_sides",
            None,
            "Directories that hold all of the log: 2 with a complete mirror",
            Gauge(|s| if s.shared.mirror.standing() == Standing::Both { 2.0 } else { 1.0 }),
        ),
        family(
            "headwater_mirror_files_left",
            None,
            "Files that are still to be copied to the directory that is being filled",
            Gauge(|s| match s.shared.mirror.standing() {
                Standing::Filling { files_left, .. } => files_left as f64,
                _ => 0.0,
            }),
        ),
        family(
            "headwater_mirror_return_attempts",
            None,
            "Attempts to take a directory in again that had failed",
            Counter(|s| of(&s.shared.mirror_retries.attempts)),
        ),
        family(
            "headwater_mirror_returned",
            None,
            "Attempts that brought the directory back: it was filled from then on",
            Counter(|s| of(&s.shared.mirror_retries.returned)),
        ),
        family(
            "headwater_mirror_filled",
            Some(Unit::Bytes),
            "Bytes that were copied to a directory that lacked them",
            Counter(|s| of(&s.shared.mirror.activity().bytes_filled)),
        ),
        family(
            "headwater_mirror_repaired",
            None,
            "Damaged copies that were written again from the other directory",
            Counter(|s| of(&s.shared.mirror.activity().repaired)),
        ),
        family(
            "headwater_mirror_unwritable",
            None,
            "Damaged copies that could not be written again; the other directory is read",
            Counter(|s| of(&s.shared.mirror.activity().unwritable)),
        ),
        family(
            "headwater_mirror_beyond_repair",
            None,
            "Batches that were found damaged in both directories",
            Counter(|s| of(&s.shared.mirror.activity().beyond_repair)),
        ),
    ]
}
