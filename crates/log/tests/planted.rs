//! Deliberate mistakes: the faults that are injected find each of them, or they would be no evidence.
//!
//! A binary of its own: while a mistake is planted the panic hook of the process is silent, and it would be so for others.

#[path = "it/common/mod.rs"]
mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{World, damage_one_bit, read_all};
use headwater_log::planted::{Bug, plant};

/// Whether one of these seeds ends in a panic while the bug is planted.
fn is_found(bug: Bug, seeds: u64, attack: impl Fn(u64)) -> bool {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    plant(Some(bug));
    let found = (0..seeds).any(|seed| catch_unwind(AssertUnwindSafe(|| attack(seed))).is_err());
    plant(None);
    std::panic::set_hook(hook);
    found
}

fn crashes(seed: u64) {
    World::new(seed, false).run(400);
}

fn flipped_bits(seed: u64) {
    for kind in [".wal", ".run", ".index"] {
        damage_one_bit(seed, kind);
    }
}

/// Damage in the newest journal, with commits behind it that say that it was on disk.
fn damaged_middle(seed: u64) {
    common::damage_the_middle(seed);
}

/// An index that is whole, and another file's.
fn misplaced_indexes(seed: u64) {
    common::misplace_indexes(seed);
}

/// A store that spoils what is put there, at times.
fn spoiling_store(seed: u64) {
    let mut world = World::new(seed, false);
    world.store.spoils.store(seed.is_multiple_of(2), std::sync::atomic::Ordering::Relaxed);
    world.run(300);
    world.settle();
    let before = read_all(&world.log);
    for _ in 0..20 {
        world.cool();
        world.settle();
    }
    assert_eq!(read_all(&world.log), before);
}

/// Objects that change behind the log's back: what is served of them was written.
fn spoiled_objects(seed: u64) {
    let mut world = World::new(seed, false);
    world.run(300);
    world.settle();
    let (before, _) = read_all(&world.log);
    for _ in 0..20 {
        world.cool();
        world.settle();
    }
    for bytes in world.store.objects.lock().expect("unpoisoned").values_mut() {
        bytes.truncate(bytes.len() / 2);
    }
    let reader = world.log.reader();
    for (id, records) in before {
        for (offset, bytes) in records {
            let read = reader.read(id, offset, 1, headwater_log::Isolation::Uncommitted);
            // A wrong object is an error of the store, never damage of the log.
            match read {
                Ok(fetched) => assert_eq!(fetched.records, bytes),
                Err(error) => assert!(matches!(error, headwater_log::LogError::Io(_)), "{error}"),
            }
        }
    }
}

/// Sides that fail, are away, come back, come back empty, and power that goes on both.
fn lost_sides(seed: u64) {
    common::mirror::attack(seed);
}

/// A side that comes back while a journal is written past it.
fn returning_sides(seed: u64) {
    common::mirror::returning(seed);
}

/// A side that is filled at the moment when a journal begins.
fn filling_amid_creation(_: u64) {
    common::amid::filling_amid_creation(|| plant(Some(Bug::FillUnfinished)));
}

/// Bits that flip on both sides, in different files.
fn disjoint_damage(seed: u64) {
    common::mirror::disjoint_damage(seed);
}

/// Records that look like the log.
fn forged_frames(seed: u64) {
    common::forged::forged(seed);
}

macro_rules! found {
    ($($name:ident: $bug:ident by $attack:ident;)*) => {
        $(#[test]
        fn $name() {
            assert!(is_found(Bug::$bug, 1500, $attack), "{:?} was not found", Bug::$bug);
        })*

        const ALL: &[(&str, &str)] = &[$((stringify!($name), stringify!($bug))),*];
    };
}

/// Whoever reads the documentation sees all of them.
#[test]
fn the_table_is_in_the_documentation() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reliability.md");
    let text = std::fs::read_to_string(file).expect("docs/reliability.md");
    assert!(ALL.len() >= 20);
    for (test, bug) in ALL {
        let line = text.lines().find(|line| line.contains(&format!("`{bug}`")));
        assert!(line.is_some_and(|line| line.contains(&format!("`{test}`"))), "{bug} by {test}");
    }
}

found! {
    a_commit_that_is_not_synced: SkipFlush by crashes;
    a_journal_whose_name_is_not_synced: SkipDirectoryFlush by crashes;
    a_run_that_is_not_synced: SkipRunFlush by crashes;
    a_journal_that_is_left_unsynced: SkipFlushBeforeRoll by crashes;
    a_sync_whose_failure_is_ignored: IgnoreFlushError by crashes;
    a_log_that_goes_on_after_a_failed_sync: NoFence by crashes;
    batches_that_are_visible_too_early: VisibleEarly by crashes;
    a_retry_that_is_appended_again: ForgetDuplicates by crashes;
    a_checkpoint_without_producers: CheckpointWithoutProducers by crashes;
    a_checkpoint_without_open_transactions: CheckpointWithoutTransactions by crashes;
    an_open_transaction_that_is_read: IgnoreOpenTransactions by crashes;
    an_aborted_transaction_that_is_read: HideAborted by crashes;
    old_frames_that_are_believed: TrustStaleFrames by crashes;
    torn_batches_that_are_believed: TrustTornBatches by crashes;
    damage_that_cuts_off_what_follows: CutAtDamage by damaged_middle;
    an_index_that_is_believed: TrustIndex by misplaced_indexes;
    old_batches_that_are_served_unread: ServeUnchecked by flipped_bits;
    a_log_start_that_is_forgotten: ForgetLogStart by crashes;
    a_file_that_goes_too_early: RemoveNeededFiles by crashes;
    a_short_write_that_counts_as_whole: IgnoreShortWrite by crashes;
    an_offset_that_is_skipped: SkipOffsets by crashes;
    a_move_that_takes_too_much: MoveTooMuch by crashes;
    an_upload_that_is_not_read_back: SkipColdCheck by spoiling_store;
    an_object_that_is_believed: TrustColdStore by spoiled_objects;
    a_local_copy_that_goes_too_early: EvictEarly by crashes;
    a_move_that_brings_back_a_deleted_partition: ResurrectByMove by crashes;
    a_lost_side_that_is_forgotten: ForgetLostSide by lost_sides;
    a_side_left_behind_that_is_believed: BelieveStaleSide by lost_sides;
    a_copy_of_bad_over_good: CopyUnlooked by disjoint_damage;
    a_mirror_that_is_not_synced: SkipMirrorFlush by lost_sides;
    a_mirror_that_counts_as_complete_too_early: PairUnfilled by lost_sides;
    a_good_copy_that_is_not_looked_for: IgnoreOtherSide by disjoint_damage;
    a_second_copy_that_is_not_looked_for: LoseDirectories by damaged_middle;
    a_frame_that_a_client_made: TrustAnySalt by forged_frames;
    a_write_past_a_returning_side_that_is_forgotten: ForgetWritePast by returning_sides;
    a_handle_from_before_that_is_kept: KeepOldHandles by returning_sides;
    a_file_that_is_copied_while_it_is_made: FillUnfinished by filling_amid_creation;
}
