//! The legacy program: types the plan in, an hour to a transaction.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result};
use rusqlite::{Connection, Statement, params};

use super::database;
use super::plan::{Kind, Plan, Step};
use super::timetable::{Flight, HOUR, Names, Weather};

/// How far the program is; given after each transaction.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// The legacy clock: UTC, milliseconds.
    pub clock: i64,
    /// Steps of the plan that are committed.
    pub done: usize,
}

/// What was done when the program ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lived {
    pub statements: u64,
    pub transactions: u64,
    /// Whether the caller ended it early.
    pub stopped: bool,
}

/// Lives `plan` in the database. After each transaction `progress` is told, and may end it.
pub fn live(
    path: &Path,
    plan: &Plan,
    mut progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Lived> {
    let connection = database::open(path)?;
    let mut desk = Desk::new(&connection, plan)?;
    let mut done = 0;
    let mut lived = Lived::default();
    // An hour's worth: some 120 statements share the cost of one sync.
    for hour in plan.steps().chunk_by(|one, next| one.clock / HOUR == next.clock / HOUR) {
        desk.type_in(hour, &connection).with_context(|| format!("writing to {}", path.display()))?;
        done += hour.len();
        lived.transactions += 1;
        lived.statements = desk.statements;
        let clock = hour.last().map_or(0, |step| step.clock);
        if progress(Progress { clock, done }).is_break() {
            lived.stopped = done < plan.len();
            break;
        }
    }
    Ok(lived)
}

/// The prepared statements of the program.
struct Desk<'c> {
    plan: &'c Plan,
    statements: u64,
    observe: Statement<'c>,
    schedule: Statement<'c>,
    announce: Statement<'c>,
    cancel: Statement<'c>,
    depart: Statement<'c>,
    land: Statement<'c>,
    divert: Statement<'c>,
    correct: Statement<'c>,
    withdraw: Statement<'c>,
    delete: Statement<'c>,
}

impl<'c> Desk<'c> {
    fn new(connection: &'c Connection, plan: &'c Plan) -> Result<Self> {
        Ok(Self {
            plan,
            statements: 0,
            observe: connection.prepare(
                "INSERT INTO weather (id, origin, year, month, day, hour, temp, dewp, humid, wind_dir, wind_speed,
                                      wind_gust, precip, pressure, visib, time_hour, updated_at)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?,
            schedule: connection.prepare(
                "INSERT INTO flights (id, year, month, day, sched_dep_time, sched_arr_time, carrier, flight, tailnum,
                                      origin, dest, distance, hour, minute, time_hour, status, scheduled_at,
                                      happened_at)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'scheduled', ?, ?)",
            )?,
            announce: connection.prepare("UPDATE flights SET dep_delay = ?2, happened_at = ?3 WHERE id = ?1")?,
            cancel: connection.prepare("UPDATE flights SET status = 'cancelled', happened_at = ?2 WHERE id = ?1")?,
            depart: connection.prepare(
                "UPDATE flights SET status = 'departed', dep_time = ?2, dep_delay = ?3, departed_at = ?4,
                                    happened_at = ?4, departure_recorded_at = ?5
                 WHERE id = ?1",
            )?,
            land: connection.prepare(
                "UPDATE flights SET status = 'landed', arr_time = ?2, arr_delay = ?3, air_time = ?4, landed_at = ?5,
                                    happened_at = ?5
                 WHERE id = ?1",
            )?,
            divert: connection.prepare(
                "UPDATE flights SET status = 'diverted', arr_time = ?2, happened_at = ?3 WHERE id = ?1",
            )?,
            correct: connection.prepare("UPDATE flights SET arr_delay = ?2, happened_at = ?3 WHERE id = ?1")?,
            withdraw: connection.prepare("UPDATE flights SET status = 'withdrawn', happened_at = ?2 WHERE id = ?1")?,
            delete: connection.prepare("DELETE FROM flights WHERE id = ?1")?,
        })
    }

    /// One transaction. A failure leaves it open, and the connection that is dropped next rolls it back.
    fn type_in(&mut self, steps: &[Step], connection: &Connection) -> Result<()> {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for step in steps {
            self.statements += match step.kind {
                Kind::Observe => self.weather(*step),
                _ => self.flight(*step),
            }
            .with_context(|| format!("{step:?}"))?;
        }
        Ok(connection.execute_batch("COMMIT")?)
    }

    fn weather(&mut self, step: Step) -> Result<u64> {
        let weather: &Weather = &self.plan.timetable.weather[step.row as usize];
        let names = &self.plan.timetable.names;
        let [year, month, day, hour] = weather.local;
        self.observe.execute(params![
            weather.id,
            names.text(weather.origin),
            year,
            month,
            day,
            hour,
            weather.temp,
            weather.dewp,
            weather.humid,
            weather.wind_dir,
            weather.wind_speed,
            weather.wind_gust,
            weather.precip,
            weather.pressure,
            weather.visib,
            names.text(weather.time_hour),
            step.clock,
        ])?;
        Ok(1)
    }

    /// Types in one step of a flight's life and returns the number of statements.
    fn flight(&mut self, step: Step) -> Result<u64> {
        let flight = &self.plan.timetable.flights[step.row as usize];
        let life = self.plan.life(step.row as usize);
        let clock = step.clock;
        let changed = match step.kind {
            Kind::Observe => return self.weather(step),
            Kind::Schedule => {
                schedule(&mut self.schedule, flight, &self.plan.timetable.names, flight.id, clock)?
            }
            Kind::ScheduleGhost => {
                schedule(&mut self.schedule, flight, &self.plan.timetable.names, life.ghost_id(), clock)?
            }
            Kind::Announce => {
                let announced = life.announced().map(|(_, delay)| delay);
                self.announce.execute(params![flight.id, announced, clock])?
            }
            Kind::Cancel => self.cancel.execute(params![flight.id, clock])?,
            Kind::Depart => {
                let departed = flight.departed_at();
                self.depart.execute(params![flight.id, flight.dep_time, flight.dep_delay, departed, clock])?
            }
            Kind::Land => {
                let first_typed = life.correction().map(|(_, wrong)| wrong).or(flight.arr_delay);
                let landed = flight.landed_at();
                self.land.execute(params![
                    flight.id,
                    flight.arr_time,
                    first_typed,
                    flight.air_time,
                    landed
                ])?
            }
            Kind::Divert => self.divert.execute(params![flight.id, flight.arr_time, clock])?,
            Kind::Correct => self.correct.execute(params![flight.id, flight.arr_delay, clock])?,
            Kind::WithdrawGhost => {
                self.withdraw.execute(params![life.ghost_id(), clock])?
                    + self.delete.execute([life.ghost_id()])?
            }
        };
        let expected = if step.kind == Kind::WithdrawGhost { 2 } else { 1 };
        anyhow::ensure!(changed == expected, "{changed} rows changed, not {expected}");
        Ok(changed as u64)
    }
}

fn schedule(
    insert: &mut Statement,
    flight: &Flight,
    names: &Names,
    id: i64,
    clock: i64,
) -> rusqlite::Result<usize> {
    insert.execute(params![
        id,
        flight.year,
        flight.month,
        flight.day,
        flight.sched_dep_time,
        flight.sched_arr_time,
        names.text(flight.carrier),
        flight.flight,
        flight.tailnum.map(|tailnum| names.text(tailnum)),
        names.text(flight.origin),
        names.text(flight.dest),
        flight.distance,
        flight.hour,
        flight.minute,
        names.text(flight.time_hour),
        flight.scheduled_at,
        clock,
    ])
}
