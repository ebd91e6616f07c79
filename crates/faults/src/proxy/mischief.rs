//! What the proxy may do, and how often.

use std::ops::Range;
use std::time::Duration;

use rand::Rng;

use super::Keys;

/// Chances are of one request, from 0 to 1.
#[derive(Debug, Clone)]
pub struct Mischief {
    /// Only these APIs.
    pub keys: Keys,
    /// The request is done; its answer never comes, and the connection is gone.
    pub cut_answer: f64,
    /// The connection is gone before the request has arrived; it arrives later, by another.
    pub late: f64,
    /// The request is done and answered; later it arrives once more, by another connection.
    pub again: f64,
    /// The request waits, and with it all that follow on its connection.
    pub delay: f64,
    pub delay_ms: Range<u64>,
    /// How much later `late` and `again` arrive.
    pub late_ms: Range<u64>,
}

impl Default for Mischief {
    fn default() -> Self {
        Self {
            keys: Keys::default(),
            cut_answer: 0.0,
            late: 0.0,
            again: 0.0,
            delay: 0.0,
            delay_ms: 1..2,
            late_ms: 1..2,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Forward,
    CutAnswer,
    Late(Duration),
    Again(Duration),
    Delay(Duration),
}

impl Mischief {
    pub fn fate(&self, key: i16, random: &mut impl Rng) -> Fate {
        if !self.keys.has(key) {
            return Fate::Forward;
        }
        let mut chance: f64 = random.random();
        let later = Duration::from_millis(random.random_range(self.late_ms.clone()));
        let delay = Duration::from_millis(random.random_range(self.delay_ms.clone()));
        let fates = [
            (self.cut_answer, Fate::CutAnswer),
            (self.late, Fate::Late(later)),
            (self.again, Fate::Again(later)),
            (self.delay, Fate::Delay(delay)),
        ];
        for (share, fate) in fates {
            if chance < share {
                return fate;
            }
            chance -= share;
        }
        Fate::Forward
    }
}

#[cfg(test)]
mod tests {
    use headwater_wire::ApiKey;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn every_fate_comes_about_and_only_for_its_apis() {
        let mischief = Mischief {
            keys: Keys::of(&[ApiKey::EndTxn]),
            cut_answer: 0.2,
            late: 0.2,
            again: 0.2,
            delay: 0.2,
            ..Mischief::default()
        };
        let mut random = SmallRng::seed_from_u64(1);
        let mut seen = [0; 5];
        for _ in 0..200 {
            seen[match mischief.fate(ApiKey::EndTxn as i16, &mut random) {
                Fate::Forward => 0,
                Fate::CutAnswer => 1,
                Fate::Late(_) => 2,
                Fate::Again(_) => 3,
                Fate::Delay(_) => 4,
            }] += 1;
            assert_eq!(mischief.fate(ApiKey::Fetch as i16, &mut random), Fate::Forward);
        }
        assert!(seen.iter().all(|count| *count > 10), "{seen:?}");
    }
}
