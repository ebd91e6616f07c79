//! wire-6 and wire-7: connections that do nothing, do it slowly, come in storms and go in the middle of an answer.
//!
//! Afterwards the broker has no more descriptors and threads than before, and serves. How long others waited meanwhile
//! is told and not judged: this machine has other things to do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::fsync::noticed;
use crate::broker::Broker;
use crate::case::{Case, Extent, Run};
use crate::kafka::{Connection, NewTopic, Power};
use crate::verify::Violation;

pub const SLOWLORIS: Case = Case {
    name: "wire-6-slowloris",
    promise: "P12",
    about: "thousands of connections that are silent, or send a byte a second of a request: others go on, all is given back",
    needs: &[],
    quick: Extent { runs: 1, seconds: 8 },
    long: Extent { runs: 5, seconds: 600 },
    run: slowloris,
};

pub const STORM: Case = Case {
    name: "wire-7-storm",
    promise: "P12",
    about: "up to 5,000 connections a second that go at once, after half a request, or in the midst of an answer",
    needs: &[],
    quick: Extent { runs: 1, seconds: 8 },
    long: Extent { runs: 5, seconds: 600 },
    run: storm,
};

const MEASURED: Duration = Duration::from_millis(1500);
/// Within this everything is given back.
const GIVEN_BACK: Duration = Duration::from_secs(60);
/// Caches and threads that come with the first requests.
const SPARE: usize = 24;

fn slowloris(run: &Run) -> Result<Option<Vec<Violation>>> {
    let (count, lasting) = if run.context.long { (10_000, 30) } else { (900, 3) };
    abused(run, |address, stop| {
        let mut open: Vec<TcpStream> = Vec::new();
        for number in 0..count {
            let Ok(mut stream) = TcpStream::connect(address) else { continue };
            // Of three, one says nothing, one the length of a frame, one also a header.
            let bytes: &[u8] = match number % 3 {
                0 => &[],
                1 => &[0, 1, 0, 0],
                _ => &[0, 1, 0, 0, 0, 3, 0, 9, 0, 0, 0, 1],
            };
            let _ = stream.write_all(bytes);
            open.push(stream);
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(lasting) && !stop.load(Ordering::Relaxed) {
            for stream in open.iter_mut().skip(1).step_by(3) {
                let _ = stream.write(&[0]);
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        open.len()
    })
}

fn storm(run: &Run) -> Result<Option<Vec<Violation>>> {
    let lasting = Duration::from_secs(if run.context.long { 60 } else { 3 });
    abused(run, |address, stop| {
        let begun = Instant::now();
        let mut count = 0;
        while begun.elapsed() < lasting && !stop.load(Ordering::Relaxed) {
            let due = (begun.elapsed().as_secs_f64() * 5000.0) as usize;
            if count >= due {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            count += 1;
            let Ok(mut stream) = TcpStream::connect(address) else { continue };
            match count % 3 {
                0 => {}
                1 => drop(stream.write_all(&[0, 0, 0, 40, 0, 3])),
                _ => {
                    // Metadata of everything; gone with the first byte of the answer.
                    let _ = stream.write_all(&METADATA);
                    let _ = stream.set_read_timeout(Some(Duration::from_millis(2)));
                    let _ = stream.read(&mut [0]);
                }
            }
        }
        count
    })
}

/// Metadata v1 of all topics.
const METADATA: [u8; 18] = [0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

fn abused(run: &Run, abuse: impl FnOnce(SocketAddr, &AtomicBool) -> usize) -> Result<Option<Vec<Violation>>> {
    let broker = run.launch(&run.data()).serve()?;
    let address: SocketAddr = broker.address.parse().context("the broker's address")?;
    let mut connection = connect(&broker)?;
    let topic = NewTopic { name: "t".to_owned(), partitions: 50, configs: Vec::new() };
    connection.create_topic(&topic)?;
    let calm = Bystander::start(&broker);
    std::thread::sleep(MEASURED);
    let calm = calm.end();
    let before = broker.open();
    let memory = broker.resident_kib().unwrap_or(0);
    let bystander = Bystander::start(&broker);
    let connections = abuse(address, &bystander.stop);
    let after_abuse = broker.resident_kib().unwrap_or(0);
    let meanwhile = bystander.end();
    run.tally("connections", connections);
    run.tally("requests of another client meanwhile", meanwhile.len());
    run.note(format!(
        "p99 of another client: {:?} before, {:?} meanwhile; memory {memory} KiB before, {after_abuse} KiB after",
        p99(&calm),
        p99(&meanwhile)
    ));
    let mut violations = Vec::new();
    if meanwhile.is_empty() {
        violations.push(noticed("another client was not served at all".to_owned()));
    }
    let begun = Instant::now();
    let mut now = broker.open();
    while (now.0 > before.0 + SPARE || now.1 > before.1 + SPARE) && begun.elapsed() < GIVEN_BACK {
        std::thread::sleep(Duration::from_millis(50));
        now = broker.open();
    }
    if now.0 > before.0 + SPARE || now.1 > before.1 + SPARE {
        let text = format!("descriptors and threads were {before:?}, and are {now:?} {GIVEN_BACK:?} after");
        violations.push(noticed(text));
    }
    if let Err(failure) = connect(&broker).and_then(|mut connection| Ok(connection.topics()?)) {
        violations.push(noticed(format!("afterwards nobody is served: {failure:#}")));
    }
    broker.kill()?;
    Ok(Some(violations))
}

fn connect(broker: &Broker) -> Result<Connection> {
    Ok(Connection::open(&broker.address, Duration::from_secs(30), &Power::default())?)
}

/// A client that behaves well, and how long each of its requests took.
struct Bystander {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Bystander {
    fn start(broker: &Broker) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (address, told) = (broker.address.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut took = Vec::new();
            let opened = Connection::open(&address, Duration::from_secs(30), &Power::default());
            let Ok(mut connection) = opened else { return took };
            while !told.load(Ordering::Relaxed) {
                let begun = Instant::now();
                if connection.topics().is_err() {
                    return took;
                }
                took.push(begun.elapsed());
                std::thread::sleep(Duration::from_millis(2));
            }
            took
        });
        Self { stop, thread }
    }

    fn end(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

fn p99(took: &[Duration]) -> Duration {
    let mut took = took.to_vec();
    took.sort_unstable();
    took.get(took.len() * 99 / 100).copied().unwrap_or_default()
}
