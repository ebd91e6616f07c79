//! Under which leader epochs an input was read, so that its positions are committed with theirs (KIP-320).

use std::collections::VecDeque;

use headwater_client::Position;
use headwater_model::Offset;

/// What was read of one input since its start, or since the last commit.
#[derive(Debug)]
pub(super) struct Epochs {
    start: Position,
    /// Where each run ends, and its epoch; they follow one another.
    runs: VecDeque<(Offset, Option<i32>)>,
}

impl Epochs {
    pub fn new(start: Position) -> Self {
        Self { start, runs: VecDeque::new() }
    }

    /// A run was fetched. One that ends before what is known has another log's records: the consumer went back.
    pub fn read(&mut self, end: Offset, leader_epoch: Option<i32>) {
        self.runs.retain(|(known, _)| *known < end);
        match self.runs.back_mut() {
            Some(last) if last.1 == leader_epoch => last.0 = end,
            _ => self.runs.push_back((end, leader_epoch)),
        }
    }

    /// The position at an offset, with the epoch of the record before it where that is known.
    pub fn at(&self, offset: Offset) -> Position {
        if offset <= self.start.offset {
            let leader_epoch = self.start.leader_epoch.filter(|_| offset == self.start.offset);
            return Position { offset, leader_epoch };
        }
        let run = self.runs.iter().find(|(end, _)| offset <= *end);
        Position { offset, leader_epoch: run.and_then(|(_, epoch)| *epoch) }
    }

    /// Positions before this one are not asked for again.
    pub fn forget_before(&mut self, offset: Offset) {
        self.start = self.at(offset);
        self.runs.retain(|(end, _)| *end > offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(epochs: &Epochs, offsets: impl IntoIterator<Item = Offset>) -> Vec<Option<i32>> {
        offsets.into_iter().map(|offset| epochs.at(offset).leader_epoch).collect()
    }

    #[test]
    fn a_position_has_the_epoch_of_the_record_before_it() {
        let mut read = Epochs::new(Position { offset: 10, leader_epoch: Some(1) });
        read.read(12, Some(1));
        read.read(14, Some(3));
        read.read(15, None);
        let expected = [None, Some(1), Some(1), Some(1), Some(3), Some(3), None, None];
        assert_eq!(epochs(&read, 9..=16), expected);
        read.forget_before(13);
        assert_eq!(epochs(&read, 12..=15), [None, Some(3), Some(3), None]);
    }

    #[test]
    fn what_was_read_again_after_a_truncation_has_its_new_epoch() {
        let mut read = Epochs::new(Position::from(0));
        read.read(150, Some(0));
        read.read(110, Some(1));
        assert_eq!(epochs(&read, [105, 110, 120]), [Some(1), Some(1), None]);
    }
}
