//! bench-8: from exec to the first record that went in and came out again, and what a server takes while it rests.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::bench::context::Context;
use crate::bench::outcome::{Metric, Outcome, Sample, Target};
use crate::bench::pairs::{Case, Entry};
use crate::bench::performance::Produce;
use crate::bench::process;
use crate::bench::server::{Recipe, Server, Side};
use crate::bench::wire::{Client, TOPIC_ALREADY_EXISTS};

pub const METHOD: &str = "The clock starts before exec and stops when a record has been produced with acks=all and \
    fetched again; the probe speaks to the socket directly and tries again every millisecond. Headwater starts \
    everything it has: broker, registry, console. Kafka's directory is formatted beforehand, untimed. The page cache \
    stays warm. Filled: 10 GiB of 1 KiB records in 1,000 partitions of one topic, by librdkafka, each server in its \
    default durability class. Unclean: kill -9 in the middle of a produce run.";

const LIMIT: Duration = Duration::from_secs(240);
const STEP: Duration = Duration::from_millis(1);
const TOPIC: &str = "bench-filled";

const EMPTY: [Metric; 5] = [
    Metric::lower("start", "ms").target(Target::Ours(25.0)),
    Metric::lower("CPU to start", "CPU-s"),
    Metric::lower("RSS idle", "MiB").target(Target::Ours(40.0)),
    Metric::lower("CPU idle", "% of a core").target(Target::Ours(0.1)),
    Metric::lower("program size", "MiB"),
];
const CLEAN: [Metric; 3] =
    [Metric::lower("start", "ms"), Metric::lower("CPU to start", "CPU-s"), Metric::lower("RSS", "MiB")];
const KILLED: [Metric; 3] = [
    Metric::lower("start", "ms").target(Target::Ours(300.0)),
    Metric::lower("CPU to start", "CPU-s"),
    Metric::lower("RSS", "MiB"),
];
const LOADED: [Metric; 2] =
    [Metric::lower("RSS after the fill", "MiB").target(Target::Ours(150.0)), Metric::lower("files", "files")];

pub fn run(context: &Context, done: &mut dyn FnMut(Outcome)) -> Result<()> {
    let mut case = |name: &str, measure: &dyn Fn(&str) -> Result<Outcome>| {
        if context.options.wants(name) {
            done(measure(name).unwrap_or_else(|error| Outcome::failed(name, format!("{error:#}"))));
        }
    };
    case("empty", &|name| empty(context, name));
    let filled =
        ["filled, at rest", "filled, clean", "filled, kill -9", "filled, kill -9, Kafka's best case"];
    if !filled.iter().any(|name| context.options.wants(name)) {
        return Ok(());
    }
    let dir = context.work.join("start");
    let fills = Side::BOTH.map(|side| fill(context, side, &dir));
    let mut recipes = Vec::new();
    for fill in &fills {
        match fill {
            Ok((recipe, _)) => recipes.push(recipe),
            Err(error) => {
                let why = format!("filling failed: {error:#}");
                filled.iter().for_each(|name| case(name, &|name| Ok(Outcome::failed(name, why.clone()))));
                return Ok(());
            }
        }
    }
    let samples: Vec<&Sample> = fills.iter().flatten().map(|(_, sample)| sample).collect();
    case(filled[0], &|name| at_rest(context, name, &samples, &recipes));
    case(filled[1], &|name| restarts(context, name, &recipes, &CLEAN, false));
    case(filled[2], &|name| restarts(context, name, &recipes, &KILLED, true));
    let quick = context.recipe(Side::Peer, &dir, &[("broker.session.timeout.ms", "1000")])?;
    case(filled[3], &|name| restarts(context, name, &[recipes[0], &quick], &KILLED, true));
    fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))
}

fn plain<'a>(name: &'a str, metrics: &'static [Metric], pairs: usize) -> Case<'a> {
    let (ours, peer) = (Entry::plain(Side::Ours), Entry::plain(Side::Peer));
    Case { bench: "start", name, ours, peer, metrics, pairs }
}

/// Starts the server and waits for the first record that comes back.
fn timed_start(recipe: &Recipe, topic: &str, partition: i32) -> Result<(Server, Sample)> {
    let begun = Instant::now();
    let mut server = recipe.spawn()?;
    while !round_trip(&server, topic, partition).unwrap_or(false) {
        if let Some(status) = server.process.0.try_wait()? {
            bail!("{} ended with {status} at its start; see {}", recipe.side.name(), recipe.log().display());
        }
        if begun.elapsed() > LIMIT {
            bail!("{} answered nothing within {} s", recipe.side.name(), LIMIT.as_secs());
        }
        std::thread::sleep(STEP);
    }
    let took = begun.elapsed().as_secs_f64() * 1e3;
    let cpu = server.cpu()?.max(process::fine_cpu_seconds(server.pid())?);
    let sample = Sample::default().set("start", took).set("CPU to start", cpu);
    let rss = process::rss_mib(server.pid())?;
    Ok((server, sample.set("RSS", rss)))
}

/// One record in and out; an error of the connection or of the server means that it is not ready.
fn round_trip(server: &Server, topic: &str, partition: i32) -> Result<bool> {
    let mut client = Client::connect(&server.bootstrap)?;
    let (error, _) = client.create_topic(topic, partition + 1, &[])?;
    if error != 0 && error != TOPIC_ALREADY_EXISTS {
        return Ok(false);
    }
    let begun = Instant::now();
    // A server that serves some requests already keeps its connection.
    while begun.elapsed() < LIMIT {
        let (error, offset) = client.produce(topic, partition, b"the first record of a start")?;
        if error == 0 {
            let (error, bytes) = client.fetch(topic, partition, offset)?;
            if error == 0 && bytes > 0 {
                return Ok(true);
            }
        }
        std::thread::sleep(STEP);
    }
    Ok(false)
}

fn empty(context: &Context, name: &str) -> Result<Outcome> {
    let rest = context.quick_or(2.0, 10.0);
    plain(name, &EMPTY, context.pairs(7)).run(context, |entry| {
        let dir = context.work.join("empty");
        let recipe = context.recipe(entry.side, &dir, &[])?;
        let (server, sample) = timed_start(&recipe, "bench-first", 0)?;
        // The first seconds still belong to the start.
        std::thread::sleep(Duration::from_secs_f64(rest / 2.0));
        let before = process::fine_cpu_seconds(server.pid())?;
        std::thread::sleep(Duration::from_secs_f64(rest));
        let idle = (process::fine_cpu_seconds(server.pid())? - before) / rest * 100.0;
        let sample = sample.set("CPU idle", idle).set("RSS idle", process::rss_mib(server.pid())?);
        let sample = sample.set("program size", program_size(context, entry.side)?);
        let command = server.command.clone();
        server.stop()?;
        fs::remove_dir_all(&dir)?;
        Ok((sample, command))
    })
}

fn program_size(context: &Context, side: Side) -> Result<f64> {
    let path: PathBuf = match side {
        Side::Ours => context.binary.clone(),
        Side::Peer => crate::kafka::cache().join(format!("apache-kafka-{}", crate::kafka::VERSION)),
    };
    let bytes = if path.is_dir() { process::files_and_bytes(&path).1 } else { fs::metadata(&path)?.len() };
    Ok(bytes as f64 / f64::from(1 << 20))
}

fn fill(context: &Context, side: Side, dir: &Path) -> Result<(Recipe, Sample)> {
    let (partitions, gib) = context.quick_or((50, 0.25), (1000, 10.0));
    let recipe = context.recipe(side, dir, &[])?;
    let server = recipe.start()?;
    eprintln!("bench: start: filling {} with {gib} GiB in {partitions} partitions", side.name());
    server.create_topic(TOPIC, partitions, &[])?;
    let payloads = context.payloads(1024)?;
    let run = filler(&payloads.one);
    run.fill(&context.drivers.performance, &server.bootstrap, (gib * 1024.0 * 1024.0) as u64)?;
    let sample = Sample::default()
        .set("RSS after the fill", process::rss_mib(server.pid())?)
        .set("files", process::files_and_bytes(&server.data).0 as f64);
    server.stop()?;
    Ok((recipe, sample))
}

fn filler(message: &str) -> Produce<'_> {
    Produce { topic: TOPIC, size: 1024, message, batch: 65_536, linger_ms: 5, properties: &[] }
}

fn at_rest(context: &Context, name: &str, samples: &[&Sample], recipes: &[&Recipe]) -> Result<Outcome> {
    plain(name, &LOADED, 1).run(context, |entry| {
        let which = usize::from(entry.side == Side::Peer);
        Ok((samples[which].clone(), format!("as above, data in {}", recipes[which].data.display())))
    })
}

/// Starts that find the filled directory, after a clean end or after kill -9 in the middle of writing.
fn restarts(
    context: &Context,
    name: &str,
    recipes: &[&Recipe],
    metrics: &'static [Metric],
    kill: bool,
) -> Result<Outcome> {
    let payloads = context.payloads(1024)?;
    plain(name, metrics, context.pairs(7)).run(context, |entry| {
        let recipe = recipes[usize::from(entry.side == Side::Peer)];
        if kill {
            let server = recipe.start()?;
            let run = filler(&payloads.one);
            let writer = run.command(&context.drivers.performance, &server.bootstrap);
            let mut writer = process::tie(&writer);
            writer.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            let writer = process::Owned::spawn(&mut writer)?;
            std::thread::sleep(Duration::from_secs(2));
            // Dropping kills with SIGKILL.
            drop(server);
            drop(writer);
        }
        let (server, sample) = timed_start(recipe, TOPIC, 0)?;
        let command = server.command.clone();
        server.stop()?;
        Ok((sample, command))
    })
}
