//! log-1: kill -9 just before any one system call, while serving and while starting.
//!
//! strace counts each call of each thread by itself, so "the 7th fdatasync" is that of whichever thread
//! gets there first. The sweep takes every call and every number up to what the busiest thread needs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::broker::{Launch, Started};
use crate::case::{Case, Extent, Need, Run};
use crate::record::mix;
use crate::strace::{self, Attached, CHANGING};
use crate::verify::{Allowed, Violation};
use crate::workload::{Plan, Played, Shape, World};

pub const SERVING: Case = Case {
    name: "log-1-kill-serving",
    promise: "P1 P2",
    about: "kill -9 before each system call of a produce, roll, delete and compact scenario",
    needs: &[Need::Strace],
    quick: Extent { runs: usize::MAX, seconds: 50 },
    long: Extent { runs: usize::MAX, seconds: u64::MAX },
    run: serving,
};

pub const COMMIT: Case = Case {
    name: "txn-2-kill-commit",
    promise: "P4",
    about: "kill -9 before each system call of transactions over several partitions: all of one or nothing",
    needs: &[Need::Strace],
    quick: Extent { runs: usize::MAX, seconds: 15 },
    long: Extent { runs: usize::MAX, seconds: u64::MAX },
    run: commit,
};

pub const STARTING: Case = Case {
    name: "log-1-kill-starting",
    promise: "P1 P11",
    about: "kill -9 before each system call of a start on the files of a killed broker",
    needs: &[Need::Strace],
    quick: Extent { runs: usize::MAX, seconds: 15 },
    long: Extent { runs: usize::MAX, seconds: u64::MAX },
    run: starting,
};

/// With other batches and other topics each time.
const LONG_ROUNDS: usize = 10;
const SEGMENT_BYTES: u32 = 64 << 10;
const CLEANER_MS: u32 = 20;
const END_PATIENCE: Duration = Duration::from_secs(10);

fn plan() -> Plan {
    let shape = Shape { most_padding: 3000, ..Shape::default() };
    Plan { producers: 3, tail: false, shape, ..Plan::default() }
}

/// Nothing but transactions.
fn commit_plan() -> Plan {
    let shape = Shape { most_padding: 100, ..Shape::default() };
    Plan {
        producers: 4,
        tail: false,
        churn: false,
        cleaned: false,
        only_transactions: true,
        shape,
        ..Plan::default()
    }
}

fn launch(run: &Run, data: &Path) -> Launch {
    run.launch_rolling(data, SEGMENT_BYTES, CLEANER_MS)
}

/// A call and its number.
struct Point {
    call: String,
    number: usize,
}

impl Point {
    fn injection(&self) -> String {
        format!("inject={}:signal=KILL:when={}", self.call, self.number)
    }
}

/// The point of this run: the one that was asked for, the next of a sweep, or any.
fn choose(run: &Run, counts: &str) -> Result<Option<Point>> {
    let chosen = match &run.context.at {
        Some(at) => at.clone(),
        None => {
            let points: Vec<String> = counts
                .split_whitespace()
                .filter_map(|entry| entry.split_once('='))
                .flat_map(|(call, most)| {
                    (1..=most.parse().unwrap_or(0)).map(move |number: usize| format!("{call}:{number}"))
                })
                .collect();
            let Some(place) = place(run, points.len()) else { return Ok(None) };
            points[place].clone()
        }
    };
    run.replay_with(format!(" --at {chosen}"));
    let (call, number) = chosen.split_once(':').context("a point is CALL:NUMBER")?;
    Ok(Some(Point { call: call.to_owned(), number: number.parse()? }))
}

/// All points once, in an order that the base seed decides; with `--long` again and again.
fn place(run: &Run, points: usize) -> Option<usize> {
    let rounds = if run.context.long { LONG_ROUNDS } else { 1 };
    if points == 0 || run.index >= rounds * points {
        return None;
    }
    let mut order: Vec<usize> = (0..points).collect();
    order.sort_by_key(|point| mix(run.context.seed ^ *point as u64));
    Some(order[run.index % points])
}

/// What a first run counts, the later ones remember.
fn counted(run: &Run, what: &str, count: impl FnOnce() -> Result<String>) -> Result<String> {
    if let Some(known) = run.context.memory.lock().expect("one thread").get(what) {
        return Ok(known.clone());
    }
    let counts = count()?;
    run.note(format!("calls of the busiest thread: {counts}"));
    run.context.memory.lock().expect("one thread").insert(what.to_owned(), counts.clone());
    Ok(counts)
}

fn written(counts: &std::collections::BTreeMap<String, usize>) -> String {
    counts.iter().map(|(call, count)| format!("{call}={count}")).collect::<Vec<_>>().join(" ")
}

fn count_serving(run: &Run, plan: Plan) -> Result<String> {
    let data = run.directory.join("counted");
    let broker = launch(run, &data).serve()?;
    let mut world = World::new(run.seed, plan);
    world.prepare(&broker.address)?;
    let notes = run.directory.join("counted.txt");
    let trace = format!("trace={CHANGING}");
    let attached = Attached::to(broker.pid(), notes.clone(), &["-e", &trace])?;
    let played = world.play(&broker.address)?;
    attached.detach()?;
    if played == Played::Cut {
        bail!("the broker ended while its calls were counted: {}", broker.words());
    }
    broker.kill()?;
    Ok(written(&strace::counts(&notes)))
}

fn serving(run: &Run) -> Result<Option<Vec<Violation>>> {
    swept(run, "kill-serving", &plan())
}

fn commit(run: &Run) -> Result<Option<Vec<Violation>>> {
    swept(run, "kill-commit", &commit_plan())
}

fn swept(run: &Run, what: &str, plan: &Plan) -> Result<Option<Vec<Violation>>> {
    let counts = counted(run, what, || count_serving(run, plan.clone()))?;
    let Some(point) = choose(run, &counts)? else { return Ok(None) };
    let launched = launch(run, &run.data());
    let mut broker = launched.serve()?;
    let mut world = World::new(run.seed, plan.clone());
    world.prepare(&broker.address)?;
    let (trace, inject) = (format!("trace={}", point.call), point.injection());
    let notes = run.directory.join("injected.txt");
    let attached = Attached::to(broker.pid(), notes, &["-e", &trace, "-e", &inject])?;
    match world.play(&broker.address)? {
        Played::Cut => {
            run.tally("killed at the point", 1);
            broker.wait_for_end(END_PATIENCE)?;
        }
        // The call came less often than when it was counted.
        Played::Through => {
            attached.detach()?;
            broker.kill()?;
        }
    }
    after(run, &mut world)
}

/// Starts again, and then once more from a clean stop.
fn after(run: &Run, world: &mut World) -> Result<Option<Vec<Violation>>> {
    let launched = launch(run, &run.data());
    let broker = launched.serve()?;
    world.resume(&broker.address)?;
    let mut violations = world.check(&broker.address, Allowed::default())?;
    if violations.is_empty() {
        broker.stop()?;
        let broker = launched.serve()?;
        violations = world.compare(&broker.address, Allowed::default())?;
        broker.kill()?;
    }
    Ok(Some(violations))
}

/// Plays the scenario and kills the broker in the middle of more.
fn killed_at_work(run: &Run, data: &Path) -> Result<World> {
    let broker = launch(run, data).serve()?;
    let mut world = World::new(run.seed, Plan { producers: 6, ..plan() });
    world.prepare(&broker.address)?;
    let running = world.start(&broker.address);
    world.wait_acknowledged(60, END_PATIENCE);
    broker.kill()?;
    world.stop(running)?;
    Ok(world)
}

fn count_starting(run: &Run) -> Result<String> {
    let data = run.directory.join("counted");
    killed_at_work(run, &data)?;
    let options = ["-e".to_owned(), format!("trace={CHANGING}")];
    let launched = launch(run, &data).traced(&options);
    let number = fs::read_dir(&launched.words)?.count();
    launched.serve()?.kill()?;
    Ok(written(&strace::counts(&launched.words.join(format!("strace-{number:04}.txt")))))
}

fn starting(run: &Run) -> Result<Option<Vec<Violation>>> {
    let counts = counted(run, "kill-starting", || count_starting(run))?;
    let Some(point) = choose(run, &counts)? else { return Ok(None) };
    let mut world = killed_at_work(run, &run.data())?;
    let options = ["-e".to_owned(), format!("trace={}", point.call), "-e".to_owned(), point.injection()];
    match launch(run, &run.data()).traced(&options).start()? {
        Started::Ended { .. } => run.tally("killed at the point", 1),
        Started::Ready(broker) => broker.kill()?,
    }
    after(run, &mut world)
}
