//! How many records a task takes before the next one has its turn.
//!
//! A thread polls and commits between two rounds of its tasks. With a function that asks a service about each record, rounds of a
//! thousand records take minutes: it would commit as seldom, be put out of the group by a rebalance, which waits for
//! `rebalance_timeout`, and lose the round; and not hear that it is to stop. Kafka Streams goes by time, too.

use std::time::Duration;

const FIRST: usize = 16;
const MOST: usize = 1000;
/// A round of all tasks should not take longer.
const LONG: Duration = Duration::from_secs(1);
const SHORT: Duration = Duration::from_millis(250);

/// The turn of a thread's tasks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace(usize);

impl Default for Pace {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Pace {
    pub fn turn(self) -> usize {
        self.0
    }

    /// A round took so long; `more` says that a task had more to do than its turn.
    pub fn took(&mut self, round: Duration, more: bool) {
        if round > LONG {
            self.0 = (self.0 / 2).max(1);
        } else if more && round < SHORT {
            self.0 = (self.0 * 2).min(MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The turns of rounds in which each of two tasks has more to do, with so long for a record.
    fn turns(pace: &mut Pace, record: Duration) -> Vec<usize> {
        let round = |_| {
            let turn = pace.turn();
            pace.took(record * 2 * u32::try_from(turn).unwrap(), true);
            turn
        };
        (0..12).map(round).collect()
    }

    #[test]
    fn a_round_takes_no_longer_than_a_second_as_far_as_that_is_up_to_the_turn() {
        let mut pace = Pace::default();
        assert_eq!(turns(&mut pace, Duration::from_micros(2)).last(), Some(&MOST));
        let slow = turns(&mut pace, Duration::from_millis(20));
        assert_eq!(slow.last(), Some(&15), "{slow:?}");
        assert_eq!(turns(&mut pace, Duration::from_secs(5)).last(), Some(&1));
        assert_eq!(turns(&mut pace, Duration::from_micros(2)).last(), Some(&MOST));
    }

    #[test]
    fn records_that_come_one_by_one_say_nothing() {
        let mut pace = Pace::default();
        pace.took(Duration::from_millis(1), false);
        assert_eq!(pace.turn(), FIRST);
    }
}
