//! What happens to the instances and to the broker, and when: from the seed.

use std::time::{Duration, Instant};

use anyhow::Result;
use rand::Rng;
use rand::rngs::StdRng;

use super::instance::{Instance, Start};
use super::server::Server;

/// Instances that run all the time, but for their accidents; one more comes and goes.
const STEADY: usize = 2;
/// One that has ended by itself is started again after so long.
const SUPERVISED: Duration = Duration::from_millis(300);
/// After so much more than its time-out a transaction is surely aborted.
const OVERDUE: Duration = Duration::from_millis(1000);
/// A damaged store ends its process, and the next start rebuilds it.
const DAMAGE: &str = "files are damaged";

#[derive(Debug, Default, Clone, Copy)]
pub struct Done {
    pub kills: usize,
    pub broker_kills: usize,
    pub pauses: usize,
    pub wipes: usize,
    pub flips: usize,
    pub older: usize,
    pub scalings: usize,
    /// Processes that ended as a store was found damaged.
    pub damaged: usize,
}

impl Done {
    pub fn add(&mut self, other: Self) {
        self.kills += other.kills;
        self.broker_kills += other.broker_kills;
        self.pauses += other.pauses;
        self.wipes += other.wipes;
        self.flips += other.flips;
        self.older += other.older;
        self.scalings += other.scalings;
        self.damaged += other.damaged;
    }
}

/// What is still to come.
#[derive(Debug, Clone, Copy)]
enum Later {
    Begin(usize),
    Resume(usize),
    Restore,
}

/// How long a member may be silent, and a transaction may be open.
#[derive(Debug, Clone, Copy)]
pub struct Lasts {
    pub session: Duration,
    pub transaction: Duration,
}

pub struct Scene {
    pub server: Server,
    instances: Vec<Instance>,
    pending: Vec<(Instant, Later)>,
    random: StdRng,
    lasts: Lasts,
    begun: Instant,
    pub done: Done,
    /// Ends that nobody asked for.
    pub ends: Vec<String>,
}

impl Scene {
    pub fn begin(server: Server, start: &Start, random: StdRng, lasts: Lasts) -> Result<Self> {
        let mut instances: Vec<Instance> =
            (1..=STEADY + 1).map(|number| Instance::new(start, &format!("instance{number}"))).collect();
        instances.iter_mut().take(STEADY).try_for_each(Instance::begin)?;
        Ok(Self {
            server,
            instances,
            pending: Vec::new(),
            random,
            lasts,
            begun: Instant::now(),
            done: Done::default(),
            ends: Vec::new(),
        })
    }

    fn say(&self, what: &str) {
        eprintln!("eos: {:7.3} {what}", self.begun.elapsed().as_secs_f64());
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.random_range(range))
    }

    fn later(&mut self, after: Duration, what: Later) {
        self.pending.push((Instant::now() + after, what));
    }

    /// One accident after the other for so long.
    pub fn run(&mut self, length: Duration) -> Result<()> {
        let until = Instant::now() + length;
        let mut next = Instant::now() + self.millis(1000..2500);
        while Instant::now() < until {
            self.settle()?;
            if Instant::now() >= next {
                self.act()?;
                next = Instant::now() + self.millis(150..1500);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Does what is due, and starts those again that have ended.
    pub fn settle(&mut self) -> Result<()> {
        let now = Instant::now();
        let due: Vec<Later> =
            self.pending.extract_if(.., |(at, _)| *at <= now).map(|(_, what)| what).collect();
        for what in due {
            match what {
                Later::Begin(index) if self.instances[index].is_at_work() => {}
                Later::Begin(index) if !self.instances[index].is_there() => {
                    self.say(&format!("start instance {}", index + 1));
                    self.instances[index].begin()?;
                }
                Later::Resume(index) if self.instances[index].stopped => {
                    self.say(&format!("resume instance {}", index + 1));
                    self.instances[index].resume()?;
                }
                Later::Restore => {
                    self.server.restore()?;
                    self.say("the broker is back");
                }
                // It is still ending.
                Later::Begin(index) => self.later(SUPERVISED, Later::Begin(index)),
                Later::Resume(_) => {}
            }
        }
        for index in 0..self.instances.len() {
            if let Some(reason) = self.instances[index].ended()? {
                self.say(&reason);
                match reason.contains(DAMAGE) {
                    true => self.done.damaged += 1,
                    false => self.ends.push(reason),
                }
                self.later(SUPERVISED, Later::Begin(index));
            }
        }
        Ok(())
    }

    /// An instance that runs and is not stopped.
    fn victim(&mut self) -> Option<usize> {
        let there = |index: &usize| self.instances[*index].is_at_work();
        let found: Vec<usize> = (0..self.instances.len()).filter(there).collect();
        (!found.is_empty()).then(|| found[self.random.random_range(0..found.len())])
    }

    fn act(&mut self) -> Result<()> {
        let choice = self.random.random_range(0..100);
        let victim = self.victim();
        match (choice, victim) {
            (0..50, Some(index)) => self.kill(index),
            (50..68, Some(index)) => self.pause(index),
            (68..74, Some(index)) => self.scale_in(index),
            (74..80, _) if !self.instances[STEADY].is_there() => {
                self.say(&format!("start instance {}", STEADY + 1));
                self.done.scalings += 1;
                self.instances[STEADY].begin()
            }
            (80..100, _) if self.server.is_whole() => {
                let done = self.server.lose(&mut self.random)?;
                match done.starts_with("pause") {
                    true => self.done.pauses += 1,
                    false => self.done.broker_kills += 1,
                }
                let longest = if matches!(self.server, Server::Ours { .. }) { 2000 } else { 9000 };
                let away = self.millis(0..longest);
                self.say(&format!("{done}, back after {away:?}"));
                self.later(away, Later::Restore);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn kill(&mut self, index: usize) -> Result<()> {
        self.instances[index].kill()?;
        self.done.kills += 1;
        let damage = self.damage(index)?;
        // At once, or so late that others have taken over.
        let away = match self.random.random_range(0..10) {
            0..6 => Duration::ZERO,
            6..9 => self.millis(200..3000),
            _ => self.lasts.session + self.millis(500..3000),
        };
        self.say(&format!("kill instance {}{damage}, back after {away:?}", index + 1));
        self.later(away, Later::Begin(index));
        Ok(())
    }

    fn damage(&mut self, index: usize) -> Result<String> {
        let choice = self.random.random_range(0..100);
        let instance = &self.instances[index];
        let done = match choice {
            0..10 => {
                instance.wipe(false)?;
                self.done.wipes += 1;
                ", wipe its stores".to_owned()
            }
            10..15 => {
                instance.wipe(true)?;
                self.done.wipes += 1;
                ", wipe its directory".to_owned()
            }
            15..30 => match instance.flip(&mut self.random)? {
                Some(where_) => {
                    self.done.flips += 1;
                    format!(", flip {where_}")
                }
                None => String::new(),
            },
            30..50 => {
                instance.keep_copy()?;
                String::new()
            }
            50..65 if instance.swap()? => {
                self.done.older += 1;
                ", put an older copy of its directory there".to_owned()
            }
            _ => String::new(),
        };
        Ok(done)
    }

    fn pause(&mut self, index: usize) -> Result<()> {
        if self.instances.iter().any(|instance| instance.stopped) {
            return Ok(());
        }
        let lasts = self.lasts;
        let away = match self.random.random_range(0..10) {
            0..3 => self.millis(200..2000),
            // Its transaction has been aborted when it wakes up, but it is still a member.
            3..5 if lasts.transaction + OVERDUE < lasts.session => lasts.transaction + OVERDUE,
            // Its place in the group is another's when it wakes up.
            _ => lasts.session + self.millis(500..4000),
        };
        let within = self.random.random_bool(0.5);
        let when = if within { " within its next transaction" } else { "" };
        self.say(&format!("stop instance {}{when} for {away:?}", index + 1));
        match within {
            true => self.instances[index].stop_in_transaction()?,
            false => self.instances[index].stop()?,
        }
        self.done.pauses += 1;
        self.later(away, Later::Resume(index));
        Ok(())
    }

    fn scale_in(&mut self, index: usize) -> Result<()> {
        self.done.scalings += 1;
        self.instances[index].end()?;
        let away = self.millis(500..4000);
        self.say(&format!("end instance {}, back after {away:?}", index + 1));
        self.later(away, Later::Begin(index));
        Ok(())
    }

    /// Everything is back, at once.
    pub fn heal(&mut self) -> Result<()> {
        self.pending.clear();
        self.server.restore()?;
        for index in 0..self.instances.len() {
            // Also one that stopped itself as it was being resumed.
            if self.instances[index].is_there() {
                self.instances[index].resume()?;
            }
            if index < STEADY && !self.instances[index].is_at_work() {
                self.later(Duration::ZERO, Later::Begin(index));
            }
        }
        self.say("all is back");
        Ok(())
    }

    pub fn end(&mut self) -> Result<()> {
        for instance in self.instances.iter_mut().filter(|instance| instance.is_at_work()) {
            instance.end()?;
        }
        for instance in &mut self.instances {
            self.ends.extend(instance.finish()?);
        }
        Ok(())
    }
}
