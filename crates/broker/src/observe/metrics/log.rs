//! The log: its commits, its files, its disk, and its open transactions.

use std::sync::atomic::Ordering;

use headwater_log::FileUse;
use prometheus_client::registry::Unit;

use super::family::{Family, Read, Samples, family, flag, labelled, of};
use crate::observe::scrape::Scrape;

pub fn families() -> Vec<Family> {
    use Read::{Counter, Gauge};
    let (bytes, seconds) = (Some(Unit::Bytes), Some(Unit::Seconds));
    vec![
        family(
            "headwater_log_flush",
            seconds.clone(),
            "Time from the begin of a commit to its end on disk; commits of unsynced topics only are in it, too",
            Read::FlushHistogram,
        ),
        family(
            "headwater_log_commits",
            None,
            "Commits, each one write for all partitions",
            Counter(|s| of(&s.shared.disk.commits)),
        ),
        family(
            "headwater_log_flushes",
            None,
            "Commits that were synced",
            Counter(|s| of(&s.shared.disk.flushes)),
        ),
        family(
            "headwater_log_written",
            bytes.clone(),
            "Bytes that commits wrote",
            Counter(|s| of(&s.shared.disk.bytes)),
        ),
        family(
            "headwater_log_commit_under_way",
            seconds.clone(),
            "How long the commit under way has taken; 0 when there is none",
            Gauge(|s| s.shared.disk.under_way().as_secs_f64()),
        ),
        family(
            "headwater_log_waits_for_space",
            None,
            "1 while the log waits for space on the disk and writes are refused",
            Gauge(|s| flag(s.shared.disk.waits_for_space.load(Ordering::Relaxed))),
        ),
        family(
            "headwater_log_fenced",
            None,
            "1 when a failed commit has ended writing until a restart",
            Gauge(|s| flag(s.shared.engine.fenced().is_some())),
        ),
        labelled(
            "headwater_log_files",
            None,
            &["kind", "place"],
            "Journals and runs, on this disk or in the cold store only",
            |s| files(s, |_| 1),
        ),
        labelled("headwater_log_file", bytes.clone(), &["kind", "place"], "Their bytes", |s| {
            files(s, |file| file.length)
        }),
        family(
            "headwater_log_live",
            bytes.clone(),
            "Bytes of batches that can be read",
            Gauge(|s| s.files.iter().map(|file| file.live).sum::<u64>() as f64),
        ),
        family(
            "headwater_log_damaged_ranges",
            None,
            "Ranges of offsets that are known to be damaged",
            Gauge(|s| s.damaged as f64),
        ),
        family(
            "headwater_disk_free",
            bytes.clone(),
            "Bytes of the data directory's file system that are free",
            Gauge(|s| s.space.map_or(f64::NAN, |space| space.free as f64)),
        ),
        family(
            "headwater_disk_size",
            bytes,
            "Bytes of the data directory's file system",
            Gauge(|s| s.space.map_or(f64::NAN, |space| space.size as f64)),
        ),
        family(
            "headwater_transactions_open",
            None,
            "Producers with an open transaction that has written",
            Gauge(|s| s.open_transactions as f64),
        ),
        family(
            "headwater_transaction_oldest_age",
            seconds,
            "Age of the oldest open transaction; 0 when there is none",
            Gauge(|s| s.oldest_transaction.map_or(0.0, |at| (s.shared.clock.now() - at).max(0) as f64 / 1e3)),
        ),
    ]
}

fn files(scrape: &Scrape, measure: fn(&FileUse) -> u64) -> Samples {
    let mut samples = Samples::new();
    for (kind, is_run) in [("journal", false), ("run", true)] {
        for (place, local) in [("local", true), ("cold", false)] {
            let these =
                scrape.files.iter().filter(|file| file.file.is_run() == is_run && file.local == local);
            let labels = vec![("kind", kind.to_owned()), ("place", place.to_owned())];
            samples.push((labels, these.map(measure).sum::<u64>() as f64));
        }
    }
    samples
}
