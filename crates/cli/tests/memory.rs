//! Memory under many connections and many partitions: it stays within its bounds, and who behaves is served.
//!
//! A binary of its own: what is measured needs the machine for itself, and its 1,900 connections the descriptors of the process.

#[path = "it/common/mod.rs"]
mod common;

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::Node;
use headwater_client::{Client, ClientConfig, ProduceRecord, Producer, ProducerConfig};

/// Together above what a process may open by default; the test's own limit counts, too.
const CONNECTIONS: usize = 1_900;
const TOPICS: usize = 10;
const PARTITIONS: usize = 1_000;
const BUDGET_MIB: u64 = 64;
/// Besides the budget: the log of all partitions, the allocator, and 64 KiB a connection at the very most.
const REST_MIB: u64 = 250;

fn resident_mib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") >> 10
}

fn connect(node: &Node) -> TcpStream {
    let stream = TcpStream::connect(&node.kafka).expect("connected");
    stream.set_nonblocking(true).expect("a socket");
    stream
}

/// A Produce request of 4 MiB that stops after its first 60 KiB.
fn unfinished() -> Vec<u8> {
    let mut request = Vec::from((4_i32 << 20).to_be_bytes());
    request.extend(0_i16.to_be_bytes());
    request.extend(9_i16.to_be_bytes());
    request.resize(60 << 10, 0);
    request
}

/// Many requests for the metadata of all topics, whose answers nobody reads.
fn unread() -> Vec<u8> {
    let mut requests = Vec::new();
    for id in 0..1_000_i32 {
        requests.extend(14_i32.to_be_bytes());
        requests.extend([0, 3, 0, 1]);
        requests.extend(id.to_be_bytes());
        requests.extend((-1_i16).to_be_bytes());
        requests.extend((-1_i32).to_be_bytes());
    }
    requests
}

/// As much as the other side takes.
fn push(stream: &mut TcpStream, bytes: &[u8]) {
    match stream.write(bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        // It was cut for its slowness.
        Err(_) => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded_while_two_thousand_connections_abuse_ten_thousand_partitions() {
    let dir = tempfile::tempdir().expect("a directory");
    let budget = format!("headwater.memory.bytes={}", BUDGET_MIB << 20);
    let mut command = std::process::Command::new(common::HEADWATER);
    command.args(["up", "--json", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"]);
    command.arg(dir.path().join("data")).args(["--config", &budget]);
    command.args(["--config", "socket.request.max.bytes=8388608"]);
    let node = Node::start_as(&mut command);
    for topic in 0..TOPICS {
        let partitions = PARTITIONS.to_string();
        node.done(&["topic", "create", &format!("orders-{topic}"), "--partitions", &partitions], "");
    }
    let before = resident_mib(node.id());
    let (unfinished, unread) = (unfinished(), unread());
    let mut slow: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(&node)).collect();
    let mut most = 0;
    let client = Client::connect(ClientConfig::new(&node.kafka, "well-behaved")).await.expect("connected");
    let producer = Producer::new(&client, ProducerConfig::default()).await.expect("a producer");
    for round in 0..8 {
        for (index, stream) in slow.iter_mut().enumerate() {
            push(stream, if index % 2 == 0 { &unfinished } else { &unread });
        }
        let topic = format!("orders-{}", round % TOPICS);
        let record = ProduceRecord { topic, value: Some("served".into()), ..ProduceRecord::default() };
        let sent = producer.send(record).await.expect("a place in the queue");
        sent.await.expect("acknowledged");
        most = most.max(resident_mib(node.id()));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(most < BUDGET_MIB + REST_MIB, "{before} MiB before, {most} MiB under abuse");
    let metrics = reqwest::get(format!("{}/metrics", node.http)).await.expect("metrics");
    let metrics = metrics.text().await.expect("text");
    let cut = metrics.lines().find_map(|line| line.strip_prefix("headwater_memory_cut_connections_total "));
    assert!(cut.expect("a metric").parse::<f64>().expect("a number") > 0.0, "nobody was cut");
    drop(slow);
    eprintln!("{before} MiB before, {most} MiB under abuse");
    node.terminate();
}
