//! A log on two disks: what was acknowledged is there whichever is lost, late, damaged or left behind.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_log::{Disk, DiskFile, FileId, Filled, Isolation, Log, MirroredDisk, SimDisk, Standing};
use rand::Rng;

use crate::common::mirror::{attack, fill, returning, sides_alone};
use crate::common::{self, SETTINGS, World, read_all};

fn seeds(default: u64) -> std::ops::Range<u64> {
    let seeds = std::env::var("HEADWATER_SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    0..seeds.unwrap_or(default)
}

fn settled(seed: u64) -> World {
    let mut world = World::mirrored(seed);
    world.cools = false;
    world.steady = true;
    world.live(250);
    world.settle();
    assert_eq!(world.disks.standing(), Standing::Both);
    world
}

#[test]
fn nothing_acknowledged_is_lost_whichever_side_fails_whenever() {
    for seed in seeds(300) {
        attack(seed);
    }
}

/// Any call that changes a side may be its last.
#[test]
fn each_side_alone_has_everything_after_the_other_fails_at_any_call() {
    for seed in seeds(12) {
        for calls in 0..60 {
            let mut world = settled(seed);
            let side = world.rng.random_range(0..2);
            world.on_side(side, |faults| faults.gone_after = Some(calls));
            world.live(60);
            world.settle();
            let (here, _) = read_all(&world.log);
            let other = sides_alone(&world).swap_remove(1 - side);
            assert_eq!(read_all(&other).0, here, "seed {seed}, {calls} calls on side {side}");
        }
    }
}

#[test]
fn a_side_that_was_left_behind_is_filled_and_not_believed() {
    for seed in seeds(40) {
        let mut world = settled(seed);
        let side = world.rng.random_range(0..2);
        world.on_side(side, |faults| faults.gone = true);
        world.live(100);
        world.settle();
        assert!(matches!(world.disks.standing(), Standing::Lost { .. }), "{:?}", world.disks.standing());
        world.crash();
        let Standing::Filling { side: filled, .. } = world.disks.standing() else {
            panic!("{:?}", world.disks.standing())
        };
        assert_eq!(filled, side.to_string());
        world.live(30);
        fill(&mut world);
        assert_eq!(world.disks.standing(), Standing::Both);
        world.settle();
        let (here, damage) = read_all(&world.log);
        assert_eq!(damage, []);
        for side in sides_alone(&world) {
            assert_eq!(read_all(&side), (here.clone(), Vec::new()), "seed {seed}");
        }
    }
}

/// The side that comes back has what the leading one cannot read any more.
#[test]
fn a_side_is_filled_though_the_other_cannot_be_read_everywhere() {
    let mut broken = 0;
    for seed in seeds(40) {
        let mut world = settled(seed);
        let side = world.rng.random_range(0..2);
        world.on_side(side, |faults| faults.gone = true);
        world.live(60);
        world.settle();
        world.crash();
        world.live(30);
        world.settle();
        let (before, _) = read_all(&world.log);
        let bytes = |side: usize, name: &str| {
            let file = world.side(side).open(name).ok()?;
            let mut bytes = vec![0; file.len().expect("a length") as usize];
            file.read_exact_at(&mut bytes, 0).expect("it is read");
            Some(bytes)
        };
        for name in common::mirror::finished(&world) {
            if bytes(0, &name).is_some_and(|first| Some(first) == bytes(1, &name)) {
                world.side(1 - side).break_sector(&name, 0);
                broken += 1;
            }
        }
        fill(&mut world);
        assert_eq!(world.disks.standing(), Standing::Both, "seed {seed}");
        assert_eq!(read_all(&world.log), (before.clone(), Vec::new()), "seed {seed}");
        for alone in sides_alone(&world) {
            assert_eq!(read_all(&alone), (before.clone(), Vec::new()), "seed {seed}");
        }
    }
    assert!(broken > 0, "no file was on both sides");
}

/// What the leading side holds cannot be opened: the one that is behind is then all there is.
#[test]
fn a_start_that_is_refused_leaves_the_side_that_is_behind_as_it_was() {
    for seed in seeds(40) {
        let mut world = settled(seed);
        let (before, _) = read_all(&world.log);
        let behind = world.rng.random_range(0..2);
        world.on_side(behind, |faults| faults.gone = true);
        world.live(100);
        world.settle();
        world.on_side(behind, |faults| faults.gone = false);
        let lead = world.side(1 - behind);
        for name in lead.list().expect("listed").iter().filter(|name| FileId::parse(name).is_some()) {
            let file = lead.open(name).expect("opens");
            let length = file.len().expect("a length") as usize;
            file.write_all_at(&vec![0xa5; length], 0).expect("overwritten");
        }
        let disks = common::attach(&world.disk, world.mirror.as_ref(), 1 << 40);
        let refused = Log::open(Arc::new(disks), SETTINGS);
        assert!(refused.is_err(), "seed {seed}: a log was opened from noise");
        let alone = MirroredDisk::unmirrored(world.side(behind).crash(|| true), "behind", 1);
        let log = Log::open(Arc::new(alone.expect("it is whole")), SETTINGS).expect("it opens");
        assert_eq!(read_all(&log), (before, Vec::new()), "seed {seed}");
    }
}

#[test]
fn an_empty_disk_is_filled_while_the_log_goes_on() {
    for seed in seeds(40) {
        let mut world = settled(seed);
        let side = world.rng.random_range(0..2);
        world.replace(side);
        assert!(matches!(world.disks.standing(), Standing::Filling { .. }));
        while world.log.reader().fill_mirror(&mut |_| true).expect("filled") == Filled::File {
            world.live(10);
        }
        world.settle();
        fill(&mut world);
        let (here, _) = read_all(&world.log);
        for alone in sides_alone(&world) {
            assert_eq!(read_all(&alone), (here.clone(), Vec::new()), "seed {seed}");
        }
    }
}

/// Flips bits on both sides, never in the same batch, and reads everything.
#[test]
fn damage_on_both_sides_in_different_places_costs_nothing_and_is_repaired() {
    for seed in seeds(60) {
        common::mirror::disjoint_damage(seed);
    }
}

#[test]
fn the_scrubber_finds_and_repairs_what_nobody_reads() {
    for seed in seeds(40) {
        let mut world = settled(seed);
        let (before, _) = read_all(&world.log);
        let names = common::mirror::finished(&world);
        let Some(name) = names.first().cloned() else { continue };
        let side = world.rng.random_range(0..2);
        let disk = world.side(side).clone();
        let length = disk.open(&name).expect("opens").len().expect("a length");
        for _ in 0..20 {
            disk.flip_bit(&name, world.rng.random_range(0..length * 8));
        }
        let reader = world.log.reader();
        let file = FileId::parse(&name).expect("a file of the log");
        for (id, extent) in reader.extents_in(file) {
            assert_eq!(reader.scrub(id, &extent, |_| true).expect("scrubbed"), 0);
        }
        // The other side is taken away: what it was needed for has been repaired.
        let other = world.side(1 - side).clone();
        other.faults(|faults| faults.gone = true);
        for (id, extent) in reader.extents_in(file) {
            reader.each_batch(id, &extent, |_| Ok(())).expect("every batch is good");
        }
        other.faults(|faults| faults.gone = false);
        assert_eq!(read_all(&world.log), (before, Vec::new()));
    }
}

#[test]
fn damage_at_the_same_place_on_both_sides_is_named_and_costs_that_batch() {
    for seed in seeds(60) {
        let mut world = settled(seed);
        let (before, _) = read_all(&world.log);
        let names = common::mirror::finished(&world);
        let Some(name) = names.first().cloned() else { continue };
        let length = world.disk.open(&name).expect("opens").len().expect("a length");
        let bit = world.rng.random_range(0..length * 8);
        (0..2).for_each(|side| world.side(side).flip_bit(&name, bit));
        world.log = world.reopened();
        let (after, damage) = read_all(&world.log);
        assert!(damage.len() <= 1, "one bit costs {damage:?}");
        common::assert_named(&before, &after, &damage, &BTreeMap::new());
    }
}

#[test]
fn a_file_that_one_side_has_lost_is_copied_back() {
    for seed in seeds(30) {
        let mut world = settled(seed);
        let (before, _) = read_all(&world.log);
        let names = common::mirror::finished(&world);
        for (at, name) in names.iter().enumerate() {
            world.side(at % 2).remove(name).expect("removed");
        }
        world.log = world.reopened();
        assert_eq!(read_all(&world.log), (before.clone(), Vec::new()));
        fill(&mut world);
        for alone in sides_alone(&world) {
            assert_eq!(read_all(&alone), (before.clone(), Vec::new()));
        }
    }
}

#[test]
fn a_side_that_cannot_be_read_is_read_from_the_other() {
    let mut world = settled(7);
    let id = *world.log.partitions().first().expect("a partition");
    let offsets = world.log.reader().offsets(id).expect("offsets");
    world.log = world.reopened();
    world.on_side(0, |faults| faults.gone = true);
    let read = world.log.reader().read(id, offsets.log_start, 100, Isolation::Uncommitted);
    assert_eq!(
        read.expect("the other side is read").records.is_empty(),
        offsets.log_start == offsets.high_watermark
    );
}

/// The log writes on, through handles of before and after; the side is believed only when it has it all.
#[test]
fn a_side_that_comes_back_is_filled_without_a_restart() {
    for seed in seeds(300) {
        let mut world = settled(seed);
        let side = world.rng.random_range(0..2);
        for round in 0..3 {
            let calls = world.rng.random_range(0..20);
            world.on_side(side, |faults| faults.gone_after = Some(calls));
            while world.disks.lost_side().is_none() {
                world.live(5);
            }
            world.live(20);
            // In the midst of anything: a commit may be on its way.
            world.begin();
            let closes = world.come_back();
            world.steady = true;
            world.end();
            for _ in 0..100 {
                world.live(3);
                world.log.reader().fill_mirror(&mut |_| true).expect("filled");
            }
            world.log.roll();
            world.settle();
            fill(&mut world);
            // Without a new journal it may have been believed before the first write past it, which lost it again.
            if let (false, Standing::Lost { reason, .. }) = (closes, world.disks.standing()) {
                assert!(
                    reason.contains("was written without it while it came back"),
                    "seed {seed}: {reason}"
                );
                world.come_back_and_let_go();
                world.steady = true;
                world.settle();
                fill(&mut world);
            }
            assert_eq!(world.disks.standing(), Standing::Both, "seed {seed}, round {round}");
            world.settle();
            let (here, damage) = read_all(&world.log);
            assert_eq!(damage, []);
            for alone in sides_alone(&world) {
                assert_eq!(read_all(&alone), (here.clone(), Vec::new()), "seed {seed}, round {round}");
            }
        }
    }
}

#[test]
fn a_side_that_comes_back_amid_writes_is_complete_when_it_is_believed_and_is_soon() {
    seeds(300).for_each(returning);
}

/// It would be written over with what the other side had of it a moment before.
#[test]
fn a_journal_is_not_copied_while_it_is_made() {
    common::amid::filling_amid_creation(|| ());
}

/// What went on by itself, or holds another log, is not written over.
#[test]
fn a_side_that_is_not_known_to_be_behind_does_not_come_back() {
    let mut world = settled(3);
    let before = world.side(1).crash(|| true);
    world.on_side(1, |faults| faults.gone = true);
    world.live(60);
    world.settle();
    assert_eq!(world.disks.lost_side(), Some(1));
    let alone = MirroredDisk::unmirrored(before.clone(), "1", 99).expect("it goes on alone");
    drop(alone);
    let names = before.list().expect("listed");
    let refused = world.disks.rejoin(1, before.clone()).expect_err("both went on").to_string();
    assert!(refused.contains("gone on without the other"), "{refused}");
    let other = SimDisk::new();
    drop(Log::open(Arc::new(MirroredDisk::single(other.clone())), SETTINGS).expect("another log"));
    let refused = world.disks.rejoin(1, other).expect_err("another log").to_string();
    assert!(refused.contains("nothing says that one is the other's copy"), "{refused}");
    assert_eq!(before.list().expect("listed"), names, "nothing was changed");
    assert!(matches!(world.disks.standing(), Standing::Lost { .. }));
}
