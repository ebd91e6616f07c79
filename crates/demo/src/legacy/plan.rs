//! The year as a list of things to type in, in the order of the legacy clock.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::life::{Isolation, Life};
use super::timetable::{DAY, HOUR, MINUTE, Name, Timetable};

/// How close another departure of the same aircraft may be to one that is typed in days late.
const ALONE_WITHIN: i64 = 30 * HOUR;
/// How long others keep flying after a departure that is typed in days late.
const LIVED_AFTER: i64 = 3 * DAY;
/// The data set's flights end here: 2014-01-01T05:00:00Z, midnight in New York.
const END_OF_YEAR: i64 = 1_388_552_400_000;

/// How much of the year is lived: everything scheduled before `until`, to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// UTC, milliseconds.
    pub until: i64,
}

impl Span {
    /// The whole year.
    pub const YEAR: Self = Self { until: END_OF_YEAR };

    /// The days before `date`, as New York counts them.
    pub fn until(date: &str) -> Result<Self> {
        let date: Date = date.parse().with_context(|| format!("{date:?} is not a date like 2013-02-01"))?;
        let zoned = date.to_zoned(TimeZone::UTC)?;
        // Midnight in New York is 04:00 or 05:00 UTC; nobody departs between the two.
        let until = (zoned.timestamp().as_millisecond() + 5 * HOUR).min(END_OF_YEAR);
        ensure!(
            date.year() == 2013 || until == END_OF_YEAR,
            "{date} is not in 2013; there is nothing to live"
        );
        Ok(Self { until })
    }

    /// A day that is lived: this one, or the last where it comes later.
    pub fn day(self, wanted: Date) -> Date {
        let end = Timestamp::from_millisecond(self.until - 5 * HOUR).unwrap_or_default();
        let last = end.to_zoned(TimeZone::UTC).date().yesterday().unwrap_or(wanted);
        wanted.min(last)
    }
}

/// One thing that is typed in: an INSERT, an UPDATE, or an UPDATE and its DELETE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    /// When it is typed in.
    pub clock: i64,
    /// Index into the timetable's flights, or its weather for [`Kind::Observe`].
    pub row: u32,
    pub kind: Kind,
}

/// What is typed in. The order is the order of things at the same instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Observe,
    Schedule,
    ScheduleGhost,
    WithdrawGhost,
    Announce,
    Cancel,
    Depart,
    Land,
    Divert,
    Correct,
}

/// The whole plan and the rows it is about.
pub struct Plan {
    pub(super) timetable: Timetable,
    isolation: Vec<Isolation>,
    steps: Vec<Step>,
}

impl Plan {
    /// Plans everything that is scheduled in `span`; the same span gives the same plan.
    pub fn of(span: Span) -> Result<Self> {
        let timetable = Timetable::read()?;
        let isolation = isolation(&timetable, span);
        let mut plan = Self { timetable, isolation, steps: Vec::new() };
        let mut steps = Vec::new();
        plan.observations(span, &mut steps);
        for (row, flight) in plan.timetable.flights.iter().enumerate() {
            if flight.scheduled_at < span.until {
                plan.flight(row, &mut steps);
            }
        }
        steps.sort_unstable();
        ensure!(!steps.is_empty(), "nothing is scheduled before that date");
        plan.steps = steps;
        Ok(plan)
    }

    /// How many things are typed in.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    pub(super) fn life(&self, row: usize) -> Life<'_> {
        Life::of(&self.timetable.flights[row], self.isolation[row])
    }

    /// An observation is typed in five minutes into its hour.
    fn observations(&self, span: Span, steps: &mut Vec<Step>) {
        let lived =
            self.timetable.weather.iter().enumerate().filter(|(_, weather)| weather.hour_at < span.until);
        steps.extend(lived.map(|(row, weather)| Step {
            clock: weather.hour_at + 5 * MINUTE,
            row: row as u32,
            kind: Kind::Observe,
        }));
    }

    fn flight(&self, row: usize, steps: &mut Vec<Step>) {
        let life = self.life(row);
        let withdrawn = life.ghost_withdrawn();
        let all = [
            (Kind::Schedule, Some(life.scheduled())),
            (Kind::ScheduleGhost, withdrawn.map(|_| life.scheduled())),
            (Kind::WithdrawGhost, withdrawn),
            (Kind::Announce, life.announced().map(|(when, _)| when)),
            (Kind::Cancel, life.cancelled()),
            (Kind::Depart, life.departure_recorded()),
            (Kind::Land, life.landing_recorded()),
            (Kind::Divert, life.diverted()),
            (Kind::Correct, life.correction().map(|(when, _)| when)),
        ];
        steps.extend(
            all.into_iter().filter_map(|(kind, when)| Some(Step { clock: when?, row: row as u32, kind })),
        );
    }
}

/// For each flight whether its aircraft is alone around it. Looks at the whole year whatever is lived.
fn isolation(timetable: &Timetable, span: Span) -> Vec<Isolation> {
    let mut departures: HashMap<Name, Vec<(i64, usize)>> = HashMap::new();
    for (row, flight) in timetable.flights.iter().enumerate() {
        if let (Some(tailnum), Some(departed)) = (flight.tailnum, flight.departed_at()) {
            departures.entry(tailnum).or_default().push((departed, row));
        }
    }
    let mut isolation = vec![Isolation::default(); timetable.flights.len()];
    for of_one in departures.values_mut() {
        of_one.sort_unstable();
        for (place, &(departed, row)) in of_one.iter().enumerate() {
            let before = place.checked_sub(1).map(|earlier| departed - of_one[earlier].0);
            let after = of_one.get(place + 1).map(|later| later.0 - departed);
            isolation[row] = Isolation {
                alone: before.into_iter().chain(after).all(|distance| distance > ALONE_WITHIN),
                early_enough: departed + LIVED_AFTER < span.until,
            };
        }
    }
    isolation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_that_is_proposed_is_lived() {
        let fourth = jiff::civil::date(2013, 1, 4);
        assert_eq!(Span::YEAR.day(fourth), fourth);
        assert_eq!(Span::until("2013-01-05").unwrap().day(fourth), fourth);
        assert_eq!(Span::until("2013-01-03").unwrap().day(fourth), jiff::civil::date(2013, 1, 2));
    }

    #[test]
    fn the_year_is_as_untidy_as_promised_and_always_the_same() {
        let plan = Plan::of(Span::YEAR).unwrap();
        let count = |kind| plan.steps.iter().filter(|step| step.kind == kind).count();
        assert_eq!(count(Kind::Observe), 26_115);
        assert_eq!(count(Kind::Schedule), 336_776);
        assert_eq!(count(Kind::Cancel), 8_255);
        assert_eq!(count(Kind::Depart), 328_521);
        assert_eq!(count(Kind::Land) + count(Kind::Divert), 328_521);
        assert_eq!(count(Kind::ScheduleGhost), count(Kind::WithdrawGhost));
        assert!((1_900..2_100).contains(&count(Kind::WithdrawGhost)), "{}", count(Kind::WithdrawGhost));
        assert!((6_000..7_000).contains(&count(Kind::Correct)), "{}", count(Kind::Correct));
        let late_by =
            |step: &&Step| step.clock - plan.timetable.flights[step.row as usize].departed_at().unwrap();
        let departures: Vec<_> = plan.steps.iter().filter(|step| step.kind == Kind::Depart).collect();
        let late = departures.iter().filter(|step| late_by(step) > 0).count();
        let days_late: Vec<_> = departures.iter().map(late_by).filter(|late| *late > 3 * HOUR).collect();
        assert!((9_000..11_000).contains(&late), "{late}");
        assert!((35..60).contains(&days_late.len()), "{}", days_late.len());
        assert!(days_late.iter().all(|late| (3 * DAY..6 * DAY).contains(late)));
        assert_eq!(plan.steps, Plan::of(Span::YEAR).unwrap().steps);
    }

    #[test]
    fn nothing_is_typed_in_before_it_happened_and_lives_are_in_order() {
        let plan = Plan::of(Span::until("2013-03-01").unwrap()).unwrap();
        let mut last = HashMap::new();
        for step in plan.steps.iter().filter(|step| step.kind != Kind::Observe) {
            let flight = &plan.timetable.flights[step.row as usize];
            match step.kind {
                Kind::Depart => assert!(step.clock >= flight.departed_at().unwrap()),
                Kind::Land => assert!(step.clock >= flight.landed_at().unwrap()),
                _ => {}
            }
            if matches!(step.kind, Kind::ScheduleGhost | Kind::WithdrawGhost) {
                continue;
            }
            let earlier = last.insert(step.row, step.kind);
            assert!(earlier.is_none_or(|earlier| earlier < step.kind), "{earlier:?} before {:?}", step.kind);
            assert!(earlier.is_some() || step.kind == Kind::Schedule, "{:?} comes first", step.kind);
        }
    }

    #[test]
    fn a_span_outside_the_year_is_refused() {
        assert!(Span::until("2012-12-31").unwrap_err().to_string().contains("2012-12-31"));
        assert!(Span::until("tomorrow").is_err());
        assert_eq!(Span::until("2014-01-01").unwrap(), Span::YEAR);
    }
}
