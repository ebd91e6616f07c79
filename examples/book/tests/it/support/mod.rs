//! Topologies between topics in memory, in good and in bad times.

pub mod cluster;

use headwater::streams::{Topology, TopologyTestDriver};
use headwater_stage::{Event, pipe};

pub const APPLICATION: &str = "test";
pub const PARTITIONS: i32 = 2;
pub const SEEDS: std::ops::Range<u64> = 1..6;

/// What happens to the service while it is fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    None,
    /// Killed between commits, now and then.
    Crashes,
    /// The same, and its stores are lost each time.
    Wiped,
}

pub const TROUBLES: [Trouble; 3] = [Trouble::None, Trouble::Crashes, Trouble::Wiped];

pub fn driver(topology: Topology) -> TopologyTestDriver {
    TopologyTestDriver::with_partitions(topology, &|_| PARTITIONS).unwrap()
}

/// The driver after it was fed.
pub fn fed(
    topology: Topology,
    events: impl IntoIterator<Item = Event>,
    trouble: Trouble,
) -> TopologyTestDriver {
    let mut driver = driver(topology);
    driver.manual_commit();
    for (place, event) in events.into_iter().enumerate() {
        pipe(&mut driver, [event]).unwrap();
        if place % 13 == 12 {
            driver.commit().unwrap();
        }
        if place % 97 == 60 {
            match trouble {
                Trouble::None => (),
                Trouble::Crashes => driver.crash().unwrap(),
                Trouble::Wiped => driver.crash_and_wipe().unwrap(),
            }
        }
    }
    // What one sub-topology commits, the next one reads.
    for _ in 0..4 {
        driver.commit().unwrap();
    }
    driver
}
