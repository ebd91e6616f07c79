//! Files that nobody needs give their space back a piece at a time: a file system may keep everybody waiting meanwhile.

use std::sync::Arc;

use headwater_log::{Disk, DiskFile, Isolation, Log, Settings, SimDisk};

use crate::common::{self, SETTINGS, append_one, commit};

const LARGE: Settings = Settings { segment_bytes: 4 << 20, spares: 0, ..SETTINGS };
/// More than one piece.
const PIECE: u64 = 1 << 20;

fn lengths(disk: &SimDisk) -> Vec<(String, u64)> {
    let length = |name: &String| disk.open(name).and_then(|file| file.len()).expect("a length");
    disk.list().expect("listed").into_iter().map(|name| (name.clone(), length(&name))).collect()
}

fn total(disk: &SimDisk) -> u64 {
    lengths(disk).iter().map(|(_, length)| length).sum()
}

/// Three journals, of which the first two are needed no more.
fn outlived(disk: &SimDisk) -> Log<SimDisk> {
    let (gone, stays) = (common::id(2), common::id(4));
    let mut log = Log::open(Arc::new(disk.clone()), LARGE).expect("it opens");
    log.create_partition(gone).expect("created");
    log.create_partition(stays).expect("created");
    commit(&mut log);
    for journal in 0..4 {
        for _ in 0..3 {
            append_one(&mut log, gone, &"gone".repeat(256 << 10));
        }
        append_one(&mut log, stays, &format!("stays {journal}"));
        log.roll();
    }
    append_one(&mut log, stays, "in the last");
    log.take_chores().into_iter().for_each(|chore| drop(chore.run().expect("tidied up")));
    log.delete_partition(gone).expect("deleted");
    log.delete_before(stays, 4).expect("deleted");
    commit(&mut log);
    log.roll();
    append_one(&mut log, stays, "behind it");
    log
}

fn assert_it_stays(log: &Log<SimDisk>) {
    let read = log.reader().read(common::id(4), 4, 1 << 20, Isolation::Uncommitted).expect("readable");
    assert!(!read.records.is_empty());
}

#[test]
fn a_file_that_goes_gives_no_more_than_a_piece_back_at_once() {
    let disk = SimDisk::new();
    let mut log = outlived(&disk);
    let before = total(&disk);
    let (mut known, mut rests) = (before, 0);
    for chore in log.take_chores() {
        let spare = chore.run_with_rests(&mut || {
            let now = total(&disk);
            assert!(known.saturating_sub(now) <= PIECE + 4096, "{known} bytes became {now} at once");
            (known, rests) = (now, rests + 1);
            // Killed here, the next start takes what is left of it.
            let killed = disk.crash(|| true);
            assert_it_stays(&Log::open(Arc::new(killed.clone()), LARGE).expect("it opens"));
            let names = killed.list().expect("listed");
            assert!(!names.iter().any(|name| name.starts_with("spare-")), "{names:?}");
        });
        assert_eq!(spare.expect("done"), None);
        known = total(&disk);
    }
    assert!(rests > 4, "{rests} pieces");
    assert!(before - known > 6 * PIECE, "{before} bytes became {known}");
    assert_it_stays(&log);
}

/// Whoever finds no space takes away what is going.
#[test]
fn what_is_going_gives_way_to_records() {
    let disk = SimDisk::new();
    let mut log = outlived(&disk);
    let mut done = false;
    for chore in log.take_chores() {
        let ended = chore.run_with_rests(&mut || {
            if !done {
                let taken = total(&disk);
                disk.faults(|faults| faults.capacity = Some(taken));
                append_one(&mut log, common::id(4), &"more".repeat(64 << 10));
                disk.faults(|faults| faults.capacity = None);
                done = true;
            }
        });
        ended.expect("that it is gone already is no error");
    }
    assert!(done, "nothing went a piece at a time");
    assert_it_stays(&log);
}

/// Where the disk is full, its directory may have no space for a longer name; what gives space back must not need any.
#[test]
fn a_file_that_gets_no_other_name_goes_at_once() {
    for spares in [0, 1] {
        let disk = SimDisk::new();
        drop(outlived(&disk));
        let mut log = Log::open(Arc::new(disk.clone()), Settings { spares, ..LARGE }).expect("it opens");
        let before = total(&disk);
        disk.faults(|faults| faults.no_renames = true);
        // What is noted anew and not removed does need another name.
        log.take_chores().into_iter().for_each(|chore| drop(chore.run()));
        disk.faults(|faults| faults.no_renames = false);
        assert!(before - total(&disk) > 6 * PIECE, "{spares}: {before} bytes became {}", total(&disk));
        assert_it_stays(&log);
    }
}
