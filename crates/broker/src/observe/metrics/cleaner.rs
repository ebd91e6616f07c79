//! The cleaner: compaction, retention, and the check for damage.

use std::sync::atomic::Ordering;

use prometheus_client::registry::Unit;

use super::family::{Family, Read, family, flag, of};

pub fn families() -> Vec<Family> {
    use Read::{Counter, Gauge};
    let bytes = Some(Unit::Bytes);
    vec![
        family(
            "headwater_cleaner_cleanings",
            None,
            "Compactions of a partition",
            Counter(|s| of(&s.shared.cleaner.cleanings)),
        ),
        family(
            "headwater_cleaner_read",
            bytes.clone(),
            "Bytes that compaction read",
            Counter(|s| of(&s.shared.cleaner.bytes_read)),
        ),
        family(
            "headwater_cleaner_written",
            bytes.clone(),
            "Bytes that compaction and moving wrote",
            Counter(|s| of(&s.shared.cleaner.bytes_written)),
        ),
        family(
            "headwater_cleaner_records_dropped",
            None,
            "Records that compaction left out",
            Counter(|s| of(&s.shared.cleaner.records_dropped)),
        ),
        family(
            "headwater_cleaner_offsets_deleted",
            None,
            "Offsets that retention deleted",
            Counter(|s| of(&s.shared.cleaner.offsets_deleted)),
        ),
        family(
            "headwater_cleaner_files_emptied",
            None,
            "Files whose rest was moved so that they can go",
            Counter(|s| of(&s.shared.cleaner.files_emptied)),
        ),
        family(
            "headwater_cleaner_failures",
            None,
            "Cleanings that failed; headwater doctor has the reasons",
            Counter(|s| of(&s.shared.cleaner.failures)),
        ),
        family(
            "headwater_cleaner_clock_held",
            None,
            "1 while nothing is deleted by age because the clock is not believed",
            Gauge(|s| flag(s.shared.cleaner.clock_held.load(Ordering::Relaxed))),
        ),
        family(
            "headwater_cleaner_max_dirty_ratio",
            None,
            "The largest part of a compacted partition that was never compacted, its active segment included",
            Gauge(|s| s.max_dirty_ratio),
        ),
        family(
            "headwater_scrub_read",
            bytes,
            "Bytes that were checked without a reader",
            Counter(|s| of(&s.shared.cleaner.bytes_scrubbed)),
        ),
        family(
            "headwater_scrub_damaged_batches",
            None,
            "Damaged batches that the check found",
            Counter(|s| of(&s.shared.cleaner.batches_damaged)),
        ),
    ]
}
