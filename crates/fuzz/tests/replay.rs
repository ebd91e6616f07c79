//! The corpus, and a fixed number of seeded changes of it, through every target and through a real broker.
//!
//! `corpus/request` holds requests of real clients (`cargo xtask faults capture`), the others what `cargo xtask fuzz` has
//! found worth keeping. Coverage guides the fuzzer and not this test, which runs with every other.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use headwater_broker::{Broker, Config};
use headwater_fuzz::{TARGETS, apis};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const CHANGES: usize = 6000;
/// A broker that says nothing for so long about a request that it has read hangs.
const PATIENCE: Duration = Duration::from_secs(20);

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("a file of the corpus")).collect()
}

/// One to eight changes of the kinds that lengths, counts and enumerations mind.
fn changed(random: &mut SmallRng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[random.random_range(0..seeds.len())].clone();
    for _ in 0..random.random_range(1..=8) {
        if bytes.is_empty() {
            bytes.push(random.random());
        }
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..6) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.random_range(0..5)],
            2 => bytes.truncate(at),
            3 => {
                let end = (at + 4).min(bytes.len());
                bytes[at..end].fill(if random.random() { 0xff } else { 0x7f });
            }
            4 => bytes.insert(at, random.random()),
            _ => {
                let other = &seeds[random.random_range(0..seeds.len())];
                let from = random.random_range(0..=other.len().min(at));
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

#[test]
fn the_corpus_and_its_changes_break_no_target() {
    for (name, target) in TARGETS {
        let seeds = corpus(name);
        assert!(!seeds.is_empty(), "corpus/{name} is empty");
        seeds.iter().for_each(|seed| target(seed));
        let mut random = SmallRng::seed_from_u64(99);
        for _ in 0..CHANGES {
            target(&changed(&mut random, &seeds));
        }
    }
}

/// Seeds for the APIs that no captured client has sent: an empty body in every version.
fn empty_bodies() -> Vec<Vec<u8>> {
    let versions = |key: headwater_wire::ApiKey| (0..14_i16).map(move |version| (key as i16, version));
    let frames = apis().into_iter().flat_map(versions).map(|(key, version)| {
        let mut frame = key.to_be_bytes().to_vec();
        frame.extend(version.to_be_bytes());
        frame.extend([0, 0, 0, 1, 0xff, 0xff, 0]);
        frame.extend([0; 24]);
        frame
    });
    frames.collect()
}

/// Every served API in every version, by captured requests and made-up ones, against the whole way of a request.
#[test]
fn a_broker_outlives_the_corpus_and_its_changes() {
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let config = Config {
        data_dir: directory.path().to_owned(),
        listen: "127.0.0.1:0".parse().expect("an address"),
        ..Config::default()
    };
    let broker = runtime.block_on(Broker::start(config)).expect("the broker starts");
    let address = broker.bootstrap();
    let mut seeds = corpus("request");
    seeds.extend(empty_bodies());
    let mut random = SmallRng::seed_from_u64(99);
    let mut stream = connect(&address);
    for number in 0..seeds.len() + CHANGES / 2 {
        let frame = match seeds.get(number) {
            Some(seed) => seed.clone(),
            None => changed(&mut random, &seeds),
        };
        if !survives(&mut stream, &frame) {
            stream = connect(&address);
        }
    }
    assert!(
        survives(&mut connect(&address), &[0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff]),
        "ApiVersions has no answer"
    );
    runtime.block_on(broker.shutdown());
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the broker takes connections");
    stream.set_read_timeout(Some(Duration::from_millis(40))).expect("a timeout");
    stream
}

/// Whether the connection may be used again; there is an answer, an end, or something that is waited for.
fn survives(stream: &mut TcpStream, frame: &[u8]) -> bool {
    let mut bytes = (frame.len() as i32).to_be_bytes().to_vec();
    bytes.extend_from_slice(frame);
    if stream.write_all(&bytes).is_err() {
        return false;
    }
    let begun = Instant::now();
    let mut length = [0; 4];
    if stream.read_exact(&mut length).is_err() {
        // Closed, or a long poll or a join that waits for others.
        return false;
    }
    let mut left = u64::from(u32::from_be_bytes(length));
    while left > 0 {
        let mut part = vec![0; left.min(1 << 16) as usize];
        match stream.read(&mut part) {
            Ok(0) => return false,
            Ok(read) => left -= read as u64,
            Err(_) => assert!(begun.elapsed() < PATIENCE, "half an answer and no more"),
        }
    }
    true
}
