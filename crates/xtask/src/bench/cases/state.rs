//! bench-12: how soon an application with much state works again: its directory wiped, or killed and started at once.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::consume::drop_caches;
use super::streams::{Stack, Stage, count_program};
use crate::bench::context::Context;
use crate::bench::outcome::{Metric, Outcome, Sample, Target};
use crate::bench::pairs::{Case, Entry};
use crate::bench::process;
use crate::bench::server::Side;
use crate::bench::streams::{Application, Heap, Libraries};

pub const METHOD: &str = "The count by key of bench-11 over 6 million records of 100 B on 6 million keys, of which about 3.8 million \
    are drawn: that many rows, and a changelog of about 6 million records in 4 partitions. Exactly-once, one thread, a \
    commit every 100 ms, state on disk. Each run begins with 1,000 new records in the input; the clock runs from the \
    start of the process (or from its `kill -9`) until its group has committed the last of them, the JVM's start included. \
    Wiped: the state directory is removed and `drop_caches` is done before; as Kafka Streams stays in its group when it is \
    closed, and who is started within the 45 s of its session waits for their end, it is started after them. Killed: the \
    application had committed everything else, and is started again at once on its directory.";

const ROWS: u64 = 6_000_000;
const NEW: u64 = 1_000;
/// Longer than the 45 s for which a group waits for a member that did not say that it goes.
const FORGOTTEN: Duration = Duration::from_secs(50);
/// The application keeps up while so many are written.
const PORTION: u64 = 1_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    Wiped,
    Killed,
}

const CASES: [(&str, Loss, Stack, Stack); 4] = [
    (
        "wiped store: ours on ours, theirs on theirs",
        Loss::Wiped,
        (Side::Ours, Side::Ours),
        (Side::Peer, Side::Peer),
    ),
    ("wiped store: both on Apache Kafka", Loss::Wiped, (Side::Ours, Side::Peer), (Side::Peer, Side::Peer)),
    (
        "killed, started at once: ours on ours, theirs on theirs",
        Loss::Killed,
        (Side::Ours, Side::Ours),
        (Side::Peer, Side::Peer),
    ),
    (
        "killed, started at once: both on Apache Kafka",
        Loss::Killed,
        (Side::Ours, Side::Peer),
        (Side::Peer, Side::Peer),
    ),
];

pub fn run(context: &Context, done: &mut dyn FnMut(Outcome)) -> Result<()> {
    let wanted: Vec<_> = CASES.iter().filter(|(name, ..)| context.options.wants(name)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let libraries = Libraries::build(&context.work)?;
    for (name, loss, ours, peer) in wanted {
        let outcome = measure(context, &libraries, name, *loss, [*ours, *peer]);
        done(outcome.unwrap_or_else(|error| Outcome::failed(name, format!("{error:#}"))));
    }
    Ok(())
}

/// An application that has counted everything, and is stopped.
struct Subject<'a> {
    stage: Stage<'a>,
    library: Side,
}

impl<'a> Subject<'a> {
    fn new(context: &'a Context, libraries: &Libraries, (library, broker): Stack) -> Result<Self> {
        let stage = Stage::new(context, broker, count_program())?;
        let subject = Self { stage, library };
        let mut application = subject.start(libraries)?;
        let rows = context.quick_or(20_000, ROWS);
        let mut written = 0;
        while written < rows {
            let portion = PORTION.min(rows - written);
            written += portion;
            subject.fill(portion, rows, context.options.seed + written)?;
            subject.stage.until_committed(&mut application, library)?;
        }
        application.stop()?;
        Ok(subject)
    }

    fn fill(&self, count: u64, keys: u64, seed: u64) -> Result<()> {
        self.stage.fill_keys(&self.stage.input, count, keys, seed)?;
        self.stage.filled.set(self.stage.filled.get() + count);
        Ok(())
    }

    fn start(&self, libraries: &Libraries) -> Result<Application> {
        self.stage.start(libraries, self.library, count_program(), (false, Heap::Ample))
    }

    fn wiped(&self, context: &Context, libraries: &Libraries, seed: u64) -> Result<Sample> {
        self.fill(NEW, context.quick_or(20_000, ROWS), seed)?;
        let state = self.stage.state_dir(self.library);
        fs::remove_dir_all(&state).with_context(|| format!("removing {}", state.display()))?;
        if self.library == Side::Peer {
            std::thread::sleep(FORGOTTEN);
        }
        drop_caches()?;
        self.until_back(libraries, Instant::now())
    }

    fn killed(&self, context: &Context, libraries: &Libraries, seed: u64) -> Result<Sample> {
        let mut application = self.start(libraries)?;
        self.stage.until_committed(&mut application, self.library)?;
        // Both have long been in the group.
        std::thread::sleep(Duration::from_secs(2));
        application.pause()?;
        self.fill(NEW, context.quick_or(20_000, ROWS), seed)?;
        let begun = Instant::now();
        application.kill()?;
        self.until_back(libraries, begun)
    }

    fn until_back(&self, libraries: &Libraries, begun: Instant) -> Result<Sample> {
        let mut application = self.start(libraries)?;
        self.stage.until_committed(&mut application, self.library)?;
        let took = begun.elapsed().as_secs_f64();
        let cpu = process::cpu_seconds(application.pid())?;
        let driver = application.shown.clone();
        application.stop()?;
        let sample = Sample { driver, ..Sample::default() };
        Ok(sample.set("works again after", took).set("library CPU", cpu))
    }
}

fn measure(
    context: &Context,
    libraries: &Libraries,
    name: &str,
    loss: Loss,
    [ours, peer]: [Stack; 2],
) -> Result<Outcome> {
    let (target, pairs) = match loss {
        Loss::Wiped => (Target::Ratio(1.0 / 2.5), 3),
        Loss::Killed => (Target::Ratio(1.0 / 40.0), 3),
    };
    let metrics = [Metric::lower("works again after", "s").target(target), Metric::lower("library CPU", "s")];
    let subjects = [Subject::new(context, libraries, ours)?, Subject::new(context, libraries, peer)?];
    let (entry, other) = (Entry::plain(Side::Ours), Entry::plain(Side::Peer));
    let case = Case {
        bench: "state",
        name,
        ours: entry,
        peer: other,
        metrics: &metrics,
        pairs: context.pairs(pairs),
    };
    let mut seed = context.options.seed;
    let outcome = case.run(context, |entry| {
        let subject = &subjects[usize::from(entry.side == Side::Peer)];
        seed += 1;
        let sample = match loss {
            Loss::Wiped => subject.wiped(context, libraries, seed)?,
            Loss::Killed => subject.killed(context, libraries, seed)?,
        };
        subject.stage.server.settle()?;
        Ok((sample, subject.stage.server.command.clone()))
    });
    subjects.iter().try_for_each(|subject| subject.stage.delete())?;
    outcome
}
