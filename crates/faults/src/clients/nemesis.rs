//! What happens to the broker while clients work.

use std::time::{Duration, Instant};

use anyhow::Result;
use rand::Rng;
use rand::rngs::SmallRng;

use crate::broker::{Broker, Launch};
use crate::proxy::Proxy;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// kill -9, and a start on the same files.
    Kill,
    /// SIGSTOP and SIGCONT.
    Pause,
    /// Every connection is cut.
    Cut,
    Nothing,
}

pub struct Nemesis<'a> {
    pub launch: &'a Launch,
    pub proxy: &'a Proxy,
    pub pause_ms: std::ops::Range<u64>,
    pub every_ms: std::ops::Range<u64>,
}

impl Nemesis<'_> {
    /// Troubles of these kinds, one after the other, for so long; returns the broker that is there in the end.
    pub fn reign(
        &self,
        mut broker: Broker,
        kinds: &[Trouble],
        lasting: Duration,
        random: &mut SmallRng,
    ) -> Result<(Broker, Vec<Trouble>)> {
        let begun = Instant::now();
        let mut done = Vec::new();
        while begun.elapsed() < lasting {
            std::thread::sleep(Duration::from_millis(random.random_range(self.every_ms.clone())));
            let trouble = kinds[random.random_range(0..kinds.len())];
            match trouble {
                Trouble::Kill => {
                    broker.kill()?;
                    broker = self.launch.serve()?;
                }
                Trouble::Pause => {
                    broker.signal("STOP")?;
                    std::thread::sleep(Duration::from_millis(random.random_range(self.pause_ms.clone())));
                    broker.signal("CONT")?;
                }
                Trouble::Cut => self.proxy.cut(),
                Trouble::Nothing => {}
            }
            done.push(trouble);
        }
        Ok((broker, done))
    }
}
