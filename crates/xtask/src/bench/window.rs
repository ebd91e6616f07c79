//! The part of a run that counts: from the end of its warm-up to its last reading, with the CPU time of server and
//! driver read at the same moments. What is still in flight at both ends cancels out.

use anyhow::{Context, Result};

use super::outcome::Sample;
use super::process::cpu_seconds;

/// A driver that burns a core, or nearly, while the server does not, decides the wall clock.
const BURNS_A_CORE: f64 = 0.9;

#[derive(PartialEq, Eq, Debug)]
pub enum Progress {
    Running,
    Over,
}

#[derive(Clone, Copy)]
struct Reading {
    seconds: f64,
    records: f64,
    server_cpu: f64,
    driver_cpu: f64,
}

pub struct Window {
    server: u32,
    driver: u32,
    from: f64,
    to: f64,
    first: Option<Reading>,
    last: Option<Reading>,
}

impl Window {
    /// Times are seconds on the driver's clock.
    pub fn new(server: u32, driver: u32, from: f64, to: f64) -> Self {
        Self { server, driver, from, to, first: None, last: None }
    }

    /// A reading of the driver's totals, taken at this moment.
    pub fn add(&mut self, seconds: f64, records: f64) -> Result<Progress> {
        if seconds < self.from {
            return Ok(Progress::Running);
        }
        let (server_cpu, driver_cpu) = (cpu_seconds(self.server)?, cpu_seconds(self.driver)?);
        let reading = Reading { seconds, records, server_cpu, driver_cpu };
        self.first.get_or_insert(reading);
        self.last = Some(reading);
        Ok(if seconds >= self.to { Progress::Over } else { Progress::Running })
    }

    pub fn sample(&self, record_size: f64, driver: String) -> Result<Sample> {
        let (first, last) = self.first.zip(self.last).context("the driver ended before its warm-up did")?;
        let (seconds, records) = (last.seconds - first.seconds, last.records - first.records);
        anyhow::ensure!(seconds > 0.0 && records > 0.0, "the driver got nothing acknowledged in its window");
        let (server, driver_cpu) = (last.server_cpu - first.server_cpu, last.driver_cpu - first.driver_cpu);
        let (server_busy, driver_busy) = (server / seconds, driver_cpu / seconds);
        let sample = Sample {
            driver,
            driver_bound: driver_busy >= BURNS_A_CORE && driver_busy > server_busy,
            ..Sample::default()
        };
        Ok(sample
            .set("throughput", records * record_size / 1e6 / seconds)
            .set("records", records / seconds)
            .set("total", last.records)
            .set("server CPU", server * 1e6 / records)
            .set("server busy", server_busy)
            .set("driver busy", driver_busy))
    }
}
