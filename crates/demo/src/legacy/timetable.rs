//! The data set as the legacy program reads it: what will happen, row by row.

use std::collections::HashMap;

use anyhow::{Context, Result};
use jiff::Timestamp;

use crate::data::{FLIGHTS, Row, WEATHER};

pub const MINUTE: i64 = 60_000;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// Texts that repeat a thousand times are kept once: the whole year stays below 30 MB.
#[derive(Default)]
pub struct Names {
    texts: Vec<Box<str>>,
    numbers: HashMap<Box<str>, Name>,
}

/// A text of [`Names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name(u16);

impl Names {
    pub fn text(&self, name: Name) -> &str {
        &self.texts[usize::from(name.0)]
    }

    fn intern(&mut self, text: &str) -> Result<Name> {
        if let Some(known) = self.numbers.get(text) {
            return Ok(*known);
        }
        let name = Name(u16::try_from(self.texts.len()).context("more than 65,536 different names")?);
        self.texts.push(text.into());
        self.numbers.insert(text.into(), name);
        Ok(name)
    }
}

/// A row of `flights` as it will be when the year is over.
#[derive(Debug, Clone)]
pub struct Flight {
    pub id: i64,
    pub year: i16,
    pub month: i16,
    pub day: i16,
    pub dep_time: Option<i16>,
    pub sched_dep_time: i16,
    pub dep_delay: Option<i16>,
    pub arr_time: Option<i16>,
    pub sched_arr_time: i16,
    pub arr_delay: Option<i16>,
    pub carrier: Name,
    pub flight: i16,
    pub tailnum: Option<Name>,
    pub origin: Name,
    pub dest: Name,
    pub air_time: Option<i16>,
    pub distance: i16,
    pub hour: i16,
    pub minute: i16,
    pub time_hour: Name,
    /// `time_hour` + `minute`, in UTC.
    pub scheduled_at: i64,
}

impl Flight {
    /// Scheduled time plus delay; `None` for a cancelled flight.
    pub fn departed_at(&self) -> Option<i64> {
        Some(self.scheduled_at + i64::from(self.dep_delay?) * MINUTE)
    }

    /// Departure plus air time; `None` unless the flight arrived where it was going.
    pub fn landed_at(&self) -> Option<i64> {
        Some(self.departed_at()? + i64::from(self.air_time?) * MINUTE)
    }
}

/// A row of `weather`.
pub struct Weather {
    pub id: i64,
    pub origin: Name,
    /// year, month, day and hour in New York.
    pub local: [i16; 4],
    pub temp: Option<f64>,
    pub dewp: Option<f64>,
    pub humid: Option<f64>,
    pub wind_dir: Option<i16>,
    pub wind_speed: Option<f64>,
    pub wind_gust: Option<f64>,
    pub precip: Option<f64>,
    pub pressure: Option<f64>,
    pub visib: Option<f64>,
    pub time_hour: Name,
    pub hour_at: i64,
}

/// Everything that will happen, in the data set's order: ids are row numbers from 1.
pub struct Timetable {
    pub names: Names,
    pub flights: Vec<Flight>,
    pub weather: Vec<Weather>,
}

impl Timetable {
    pub fn read() -> Result<Self> {
        let mut names = Names::default();
        let (mut flights, mut weather) = (Vec::new(), Vec::new());
        FLIGHTS.for_each_row(|row| {
            let id = flights.len() as i64 + 1;
            flights.push(flight(id, row, &mut names).with_context(|| format!("row {id} of flights"))?);
            Ok(())
        })?;
        WEATHER.for_each_row(|row| {
            let id = weather.len() as i64 + 1;
            weather.push(observation(id, row, &mut names).with_context(|| format!("row {id} of weather"))?);
            Ok(())
        })?;
        Ok(Self { names, flights, weather })
    }
}

fn flight(id: i64, row: &Row, names: &mut Names) -> Result<Flight> {
    let cell = Cells { row };
    let minute: i16 = cell.known(17)?;
    let time_hour = cell.text(18)?;
    Ok(Flight {
        id,
        year: cell.known(0)?,
        month: cell.known(1)?,
        day: cell.known(2)?,
        dep_time: cell.number(3)?,
        sched_dep_time: cell.known(4)?,
        dep_delay: cell.number(5)?,
        arr_time: cell.number(6)?,
        sched_arr_time: cell.known(7)?,
        arr_delay: cell.number(8)?,
        carrier: names.intern(cell.text(9)?)?,
        flight: cell.known(10)?,
        tailnum: row[11].map(|text| names.intern(text)).transpose()?,
        origin: names.intern(cell.text(12)?)?,
        dest: names.intern(cell.text(13)?)?,
        air_time: cell.number(14)?,
        distance: cell.known(15)?,
        hour: cell.known(16)?,
        minute,
        time_hour: names.intern(time_hour)?,
        scheduled_at: instant(time_hour)? + i64::from(minute) * MINUTE,
    })
}

fn observation(id: i64, row: &Row, names: &mut Names) -> Result<Weather> {
    let cell = Cells { row };
    let time_hour = cell.text(14)?;
    Ok(Weather {
        id,
        origin: names.intern(cell.text(0)?)?,
        local: [cell.known(1)?, cell.known(2)?, cell.known(3)?, cell.known(4)?],
        temp: cell.number(5)?,
        dewp: cell.number(6)?,
        humid: cell.number(7)?,
        wind_dir: cell.number(8)?,
        wind_speed: cell.number(9)?,
        wind_gust: cell.number(10)?,
        precip: cell.number(11)?,
        pressure: cell.number(12)?,
        visib: cell.number(13)?,
        time_hour: names.intern(time_hour)?,
        hour_at: instant(time_hour)?,
    })
}

fn instant(text: &str) -> Result<i64> {
    let at: Timestamp = text.parse().with_context(|| format!("{text:?} is not an instant"))?;
    Ok(at.as_millisecond())
}

/// Typed access to a row of text.
struct Cells<'a> {
    row: &'a Row<'a>,
}

impl Cells<'_> {
    fn text(&self, column: usize) -> Result<&str> {
        self.row[column].with_context(|| format!("column {column} is NA"))
    }

    fn number<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
        &self,
        column: usize,
    ) -> Result<Option<T>> {
        self.row[column]
            .map(|text| text.parse().with_context(|| format!("column {column}: {text:?} is not a number")))
            .transpose()
    }

    fn known<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
        &self,
        column: usize,
    ) -> Result<T> {
        self.number(column)?.with_context(|| format!("column {column} is NA"))
    }
}
