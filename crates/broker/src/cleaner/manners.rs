//! How the cleaner leaves the machine to others: it works in small steps, and while others commit it rests
//! after each for as long as the step took. Its thread comes last when there is no core for everybody.

use std::time::{Duration, Instant};

use super::throttle::Throttle;
use crate::engine::disk::DiskActivity;

/// So much is read or written between two looks at what others do.
pub const STEP: usize = 64 << 10;
const SHORTEST: Duration = Duration::from_micros(200);
const LONGEST: Duration = Duration::from_millis(50);
/// The lowest priority of the processor, as nice(1) counts.
const NICE: i32 = 19;

#[derive(Debug)]
pub struct Manners {
    throttle: Throttle,
    bytes: usize,
    began: Instant,
    /// Commits when the step began.
    commits: u64,
}

/// What the foreground did since a step began.
#[derive(Debug, Clone, Copy)]
pub struct Foreground {
    pub commits: u64,
    pub under_way: bool,
}

impl Foreground {
    pub fn now(disk: &DiskActivity) -> Self {
        let commits = disk.commits.load(std::sync::atomic::Ordering::Relaxed);
        Self { commits, under_way: disk.under_way() > Duration::ZERO }
    }
}

impl Manners {
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self { throttle: Throttle::new(bytes_per_second), bytes: 0, began: Instant::now(), commits: 0 }
    }

    /// For the thread that calls. Where it is not allowed the pauses are all there is.
    pub fn come_last() {
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "the cleaner's thread keeps its priority");
        }
    }

    /// Something was done; sleeps when it is time to.
    pub fn did(&mut self, bytes: usize, disk: &DiskActivity) {
        if let Some(pause) = self.after(bytes, Instant::now(), || Foreground::now(disk)) {
            std::thread::sleep(pause);
            self.throttle.pass(std::mem::take(&mut self.bytes) as u64);
            self.began = Instant::now();
        }
    }

    /// How long to rest when a step is over.
    fn after(&mut self, bytes: usize, now: Instant, others: impl FnOnce() -> Foreground) -> Option<Duration> {
        self.bytes += bytes;
        if self.bytes < STEP {
            return None;
        }
        let others = others();
        let busy = others.under_way || others.commits != std::mem::replace(&mut self.commits, others.commits);
        let took = now.saturating_duration_since(self.began);
        Some(if busy { took.clamp(SHORTEST, LONGEST) } else { Duration::ZERO })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(manners: &mut Manners, bytes: usize, took: Duration, others: Foreground) -> Option<Duration> {
        let began = manners.began;
        let rest = manners.after(bytes, began + took, || others);
        if rest.is_some() {
            manners.bytes = 0;
        }
        rest
    }

    #[test]
    fn half_of_the_time_is_left_to_whoever_commits() {
        let mut manners = Manners::new(None);
        let took = Duration::from_millis(3);
        let idle = Foreground { commits: 0, under_way: false };
        assert_eq!(rest(&mut manners, STEP - 1, took, idle), None, "a step is not over");
        assert_eq!(rest(&mut manners, 1, took, idle), Some(Duration::ZERO), "nobody is there");
        let busy = Foreground { commits: 7, under_way: false };
        assert_eq!(rest(&mut manners, STEP, took, busy), Some(took));
        assert_eq!(rest(&mut manners, STEP, took, busy), Some(Duration::ZERO), "no commit since");
        let flushing = Foreground { commits: 7, under_way: true };
        assert_eq!(rest(&mut manners, STEP, Duration::ZERO, flushing), Some(SHORTEST));
        assert_eq!(rest(&mut manners, STEP, Duration::from_secs(9), flushing), Some(LONGEST));
    }
}
