//! Which letters of a partition are done, as a group's committed offset and its metadata.
//!
//! All letters below the offset are done; of those above, the ones in the ranges of the metadata: `hwd1` and for each range
//! `;gap,length` in decimal, where the gap is that to the end of the range before (the first: to the offset). A filter leaves letters
//! between those it chooses, so that a later run with another filter finds exactly what is left.

use std::collections::VecDeque;

use headwater_client::Committed;
use headwater_model::Offset;

const VERSION: &str = "hwd1";
/// Brokers refuse longer metadata (`offset.metadata.max.bytes`).
const LONGEST: usize = 4096;

type Range = (Offset, Offset);

/// The letters left between those that are done are too many for one commit to tell.
#[derive(Debug, PartialEq, Eq)]
pub struct TooManyGaps;

/// Filled by passing every letter of the partition in order.
#[derive(Debug, Default, Clone)]
pub struct Progress {
    next: Offset,
    done: Vec<Range>,
    /// What earlier runs did and this one has not passed.
    ahead: VecDeque<Range>,
    /// A letter was left; the offset stays there.
    left: bool,
    /// The letter before is in the last range.
    in_range: bool,
}

impl Progress {
    pub fn new(committed: Option<&Committed>) -> Self {
        let Some(committed) = committed else { return Self::default() };
        let ahead = parse(committed.offset, &committed.metadata).unwrap_or_default();
        Self { next: committed.offset, ahead, ..Self::default() }
    }

    /// Where reading begins: nothing before it is left.
    pub fn start(&self) -> Offset {
        self.next
    }

    /// Whether an earlier run did this letter. Asked in the order of offsets.
    pub fn is_done(&mut self, offset: Offset) -> bool {
        while self.ahead.front().is_some_and(|(_, end)| *end <= offset) {
            self.ahead.pop_front();
        }
        self.ahead.front().is_some_and(|(begin, end)| (*begin..*end).contains(&offset))
    }

    /// The letter at `offset` is done, or left.
    pub fn pass(&mut self, offset: Offset, done: bool) {
        match (done, self.left, self.done.last_mut().filter(|_| self.in_range)) {
            (true, false, _) => self.next = offset + 1,
            (true, true, Some(last)) => last.1 = offset + 1,
            (true, true, None) => self.done.push((offset, offset + 1)),
            (false, false, _) => (self.next, self.left) = (offset, true),
            (false, true, _) => {}
        }
        self.in_range = done && self.left;
    }

    /// What to commit after the letter at `offset` was passed.
    pub fn committed(&self, offset: Offset) -> Result<Committed, TooManyGaps> {
        let passed = offset + 1;
        let ahead = self.ahead.iter().filter(|(_, end)| *end > passed);
        let ahead = ahead.map(|(begin, end)| ((*begin).max(passed), *end));
        let (mut text, mut last) = (String::new(), self.next);
        for (begin, end) in self.done.iter().copied().chain(ahead) {
            text.push_str(&format!(";{},{}", begin - last, end - begin));
            last = end;
        }
        if !text.is_empty() {
            text.insert_str(0, VERSION);
        }
        if text.len() > LONGEST {
            return Err(TooManyGaps);
        }
        Ok(Committed { offset: self.next, metadata: text, leader_epoch: None })
    }
}

/// `None` where someone else wrote it: then only the offset counts.
fn parse(offset: Offset, text: &str) -> Option<VecDeque<Range>> {
    let mut parts = text.split(';');
    if parts.next() != Some(VERSION) {
        return None;
    }
    let mut last = offset;
    let range = |part: &str| {
        let (gap, length) = part.split_once(',')?;
        let begin = last.checked_add(gap.parse().ok()?)?;
        last = begin.checked_add(length.parse().ok()?)?;
        Some((begin, last))
    };
    parts.map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes all letters not done yet, of which `chooses` takes some; returns those and what is committed.
    fn run(
        letters: &[Offset],
        before: Option<&Committed>,
        stop: Offset,
        chooses: impl Fn(Offset) -> bool,
    ) -> (Vec<Offset>, Committed) {
        let mut progress = Progress::new(before);
        let (mut taken, mut last) = (Vec::new(), progress.start() - 1);
        for &letter in letters.iter().filter(|letter| **letter >= progress.start()).collect::<Vec<_>>() {
            if letter >= stop {
                break;
            }
            let was_done = progress.is_done(letter);
            let takes = !was_done && chooses(letter);
            taken.extend(takes.then_some(letter));
            progress.pass(letter, was_done || takes);
            last = letter;
        }
        (taken, progress.committed(last).unwrap())
    }

    #[test]
    fn runs_with_other_filters_take_each_letter_once_and_none_is_left_over() {
        // Between letters there are offsets of control records.
        let letters: Vec<Offset> = (0..200).map(|n| n * 3 + n % 2).collect();
        let (mut all, mut committed) = (Vec::new(), None);
        for (divisor, stop) in [(7, 1000), (5, 300), (5, 1000), (2, 450), (3, 90), (1, 1000), (1, 1000)] {
            let (taken, after) = run(&letters, committed.as_ref(), stop, |letter| letter % divisor == 0);
            assert!(after.metadata.len() < 1500, "{}", after.metadata);
            all.extend(taken);
            committed = Some(after);
        }
        all.sort_unstable();
        assert_eq!(all, letters);
        let end = committed.unwrap();
        assert_eq!((end.offset, end.metadata.as_str()), (letters[199] + 1, ""));
    }

    #[test]
    fn ranges_cross_what_is_no_letter_and_gaps_without_number_are_refused() {
        let (_, committed) = run(&[0, 5, 9, 20, 21], None, 100, |letter| letter != 0 && letter != 20);
        assert_eq!((committed.offset, committed.metadata.as_str()), (0, "hwd1;5,5;11,1"));
        let many: Vec<Offset> = (0..4000).collect();
        let mut progress = Progress::default();
        many.iter().for_each(|letter| progress.pass(*letter, letter % 2 == 1));
        assert_eq!(progress.committed(3999), Err(TooManyGaps));
        let foreign = Committed { offset: 4, metadata: "someone's".to_owned(), leader_epoch: None };
        assert_eq!(Progress::new(Some(&foreign)).start(), 4);
    }
}
