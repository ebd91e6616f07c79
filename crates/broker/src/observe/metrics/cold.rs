//! The cold store.

use prometheus_client::registry::Unit;

use super::family::{Family, Read, family, of};

pub fn families() -> Vec<Family> {
    use Read::Counter;
    vec![
        family(
            "headwater_cold_files_moved",
            None,
            "Files that went to the cold store",
            Counter(|s| of(&s.shared.cleaner.files_cooled)),
        ),
        family(
            "headwater_cold_objects_swept",
            None,
            "Objects that nobody needed any more and that were removed from the cold store",
            Counter(|s| of(&s.shared.cleaner.objects_swept)),
        ),
        family(
            "headwater_cold_moved",
            Some(Unit::Bytes),
            "Their bytes",
            Counter(|s| of(&s.shared.cleaner.bytes_cooled)),
        ),
        family(
            "headwater_cold_requests",
            None,
            "Requests to the cold store, each with the attempts that it took",
            Counter(|s| of(&s.shared.cleaner.cold.requests)),
        ),
        family(
            "headwater_cold_requests_failed",
            None,
            "Of them those that failed in the end; an object that is not there is no failure",
            Counter(|s| of(&s.shared.cleaner.cold.failures)),
        ),
        family(
            "headwater_cold_requests_time",
            Some(Unit::Seconds),
            "How long they took together",
            Counter(|s| of(&s.shared.cleaner.cold.micros) / 1e6),
        ),
    ]
}
