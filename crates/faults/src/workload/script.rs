//! A short fixed sequence of everything a log does: the scenario that is killed at every system call.

use std::time::Duration;

use anyhow::Result;
use rand::Rng;

use super::World;
use crate::kafka::Failure;

const ROUNDS: usize = 6;
const SETTLE: Duration = Duration::from_millis(60);

impl World {
    /// One client, one request after the other; ends early when the broker is gone.
    pub fn play(&mut self, address: &str) -> Result<Played> {
        let Ok(mut connection) = self.connect(address) else { return Ok(Played::Cut) };
        for _ in 0..ROUNDS {
            for session in &mut self.sessions {
                match session.step(&mut connection) {
                    Ok(()) => {}
                    Err(Failure::Lost(_)) => return Ok(Played::Cut),
                    Err(failure) => self.shared.complain(format!("{}: {failure}", session.describe())),
                }
            }
            for _ in 0..if self.plan.churn { self.rng.random_range(3..=4) } else { 0 } {
                match self.churn.step(&mut connection) {
                    Ok(()) => {}
                    Err(Failure::Lost(_)) => return Ok(Played::Cut),
                    Err(failure) => self.shared.complain(format!("the churn: {failure}")),
                }
            }
        }
        // The cleaner comes on its own time.
        std::thread::sleep(SETTLE);
        match connection.topics() {
            Err(Failure::Lost(_)) => Ok(Played::Cut),
            _ => Ok(Played::Through),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Played {
    Through,
    /// The broker went away.
    Cut,
}
