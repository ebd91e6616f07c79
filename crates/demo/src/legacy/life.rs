//! The life of one flight: when each thing happens, and when somebody gets round to typing it in.
//!
//! Every whim is a hash of the flight's id, so two runs live the same year and any part of it can be
//! lived alone. The rates are those of an office that mostly works: see the constants.

use super::timetable::{DAY, Flight, HOUR, MINUTE};

/// Departures typed in 5 minutes to 3 hours late.
const LATE_PER_MILLE: u64 = 30;
/// Of the flights that may be (a small share), one in this many is typed in days late: some forty a year.
const ONE_IN_DAYS_LATE: u64 = 2_000;
/// Arrival delays typed in wrong and corrected a day or two later.
const WRONG_PER_MILLE: u64 = 20;
/// One flight in this many has a ghost: some two thousand a year.
const ONE_IN_GHOST: u64 = 168;
/// Delays from here on are announced before departure.
const ANNOUNCED_MINUTES: i16 = 60;
/// Ghosts carry the ids after the data set's last.
pub const GHOST_IDS_FROM: i64 = 336_776;

/// What an aircraft does around a flight, which decides whether typing it in late is unambiguous.
#[derive(Debug, Clone, Copy, Default)]
pub struct Isolation {
    /// The aircraft is known and departs from nowhere else within 30 hours before or after.
    pub alone: bool,
    /// Three more days are lived after the departure, so that everybody knows it is late.
    pub early_enough: bool,
}

/// One flight and its whims.
pub struct Life<'a> {
    flight: &'a Flight,
    isolation: Isolation,
}

impl<'a> Life<'a> {
    pub fn of(flight: &'a Flight, isolation: Isolation) -> Self {
        Self { flight, isolation }
    }

    /// The INSERT: 2 to 24 hours before the scheduled departure.
    pub fn scheduled(&self) -> i64 {
        self.flight.scheduled_at - self.whim(Whim::Lead, 2 * HOUR, DAY)
    }

    /// The announcement of a big delay, half an hour before the scheduled departure, rounded down to half hours.
    pub fn announced(&self) -> Option<(i64, i16)> {
        let delay = self.flight.dep_delay.filter(|delay| *delay >= ANNOUNCED_MINUTES)?;
        Some((self.flight.scheduled_at - 30 * MINUTE, delay / 30 * 30))
    }

    /// When the departure is typed in; `None` for a cancelled flight.
    pub fn departure_recorded(&self) -> Option<i64> {
        let departed = self.flight.departed_at()?;
        Some(if self.days_late() {
            departed + self.whim(Whim::DaysLate, 3 * DAY, 6 * DAY)
        } else if self.per_mille(Whim::Late) < LATE_PER_MILLE {
            departed + self.whim(Whim::LateBy, 5 * MINUTE, 3 * HOUR)
        } else {
            departed
        })
    }

    /// When the landing is typed in: as it happens, or right after a late departure.
    pub fn landing_recorded(&self) -> Option<i64> {
        Some(self.flight.landed_at()?.max(self.departure_recorded()?))
    }

    /// A wrong first arrival delay, and when it is corrected.
    pub fn correction(&self) -> Option<(i64, i16)> {
        let right = self.flight.arr_delay?;
        let wrong = self.per_mille(Whim::Wrong) < WRONG_PER_MILLE && !self.days_late();
        let when = self.landing_recorded()? + self.whim(Whim::CorrectedAfter, DAY, 2 * DAY);
        wrong.then(|| (when, right + self.whim(Whim::WrongBy, 1, 91) as i16))
    }

    /// When a flight that left and never arrived where it was going is given up.
    pub fn diverted(&self) -> Option<i64> {
        let departed = self.flight.departed_at().filter(|_| self.flight.air_time.is_none())?;
        Some(departed.max(self.departure_recorded()?) + self.whim(Whim::GivenUpAfter, 2 * HOUR, 6 * HOUR))
    }

    /// When a flight that never left is cancelled: an hour before to three hours after its time.
    pub fn cancelled(&self) -> Option<i64> {
        let never_left = self.flight.dep_delay.is_none();
        never_left.then(|| self.flight.scheduled_at - HOUR + self.whim(Whim::CancelledAt, 0, 4 * HOUR))
    }

    /// When this flight's ghost is withdrawn, if it has one: 30 to 90 minutes before its time.
    pub fn ghost_withdrawn(&self) -> Option<i64> {
        let haunted = self.hash(Whim::Ghost).is_multiple_of(ONE_IN_GHOST);
        haunted.then(|| self.flight.scheduled_at - self.whim(Whim::GhostGone, 30 * MINUTE, 90 * MINUTE))
    }

    pub fn ghost_id(&self) -> i64 {
        GHOST_IDS_FROM + self.flight.id
    }

    fn days_late(&self) -> bool {
        let Isolation { alone, early_enough } = self.isolation;
        let landed = self.flight.air_time.is_some();
        landed && alone && early_enough && self.hash(Whim::IsDaysLate).is_multiple_of(ONE_IN_DAYS_LATE)
    }

    /// A number in `from..until`, in whole minutes if both are.
    fn whim(&self, whim: Whim, from: i64, until: i64) -> i64 {
        let unit = if until - from >= MINUTE { MINUTE } else { 1 };
        from + (self.hash(whim) % ((until - from) / unit) as u64) as i64 * unit
    }

    fn per_mille(&self, whim: Whim) -> u64 {
        self.hash(whim) % 1_000
    }

    /// SplitMix64's finalizer (Steele, Lea, Flood 2014) over id and whim.
    fn hash(&self, whim: Whim) -> u64 {
        let mut mixed = (self.flight.id as u64 * 16 + whim as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[derive(Clone, Copy)]
enum Whim {
    Lead,
    Late,
    LateBy,
    IsDaysLate,
    DaysLate,
    Wrong,
    WrongBy,
    CorrectedAfter,
    GivenUpAfter,
    CancelledAt,
    Ghost,
    GhostGone,
}
