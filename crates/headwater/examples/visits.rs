//! Counts visits by page, and answers for any page at any of its instances (docs/streams-queries.md).
//!
//! `cargo run -p headwater --example visits -- PORT [BOOTSTRAP]` starts an instance that answers on 127.0.0.1:PORT;
//! `-- visit PAGE [BOOTSTRAP]` writes a visit, and prints the question that sees it.

use std::error::Error;

use headwater::client::{Client, ClientConfig, NewTopic, ProduceRecord, Producer, ProducerConfig};
use headwater::streams::serdes::string;
use headwater::streams::{Consumed, Grouped, Materialized, StreamsBuilder, Topology, TopologyError};
use headwater::{AppConfig, Position, StreamsApp};

const APPLICATION: &str = "visits-by-page";
const VISITS: &str = "visits";

/// Visits by visitor → how many each page had.
fn topology() -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new(APPLICATION);
    builder
        .stream(VISITS, Consumed::with(string(), string()))
        .group_by(|_, page: &String| page.clone(), Grouped::with(string(), string()).named("by-page"))
        .count(Materialized::named("visits").json());
    builder.build()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["visit", page] => visit(page, "127.0.0.1:9092").await,
        ["visit", page, bootstrap] => visit(page, bootstrap).await,
        [port] => run(port.parse()?, "127.0.0.1:9092").await,
        [port, bootstrap] => run(port.parse()?, bootstrap).await,
        _ => Err("say PORT [BOOTSTRAP], or visit PAGE [BOOTSTRAP]".into()),
    }
}

async fn run(port: u16, bootstrap: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::connect(ClientConfig::new(bootstrap, APPLICATION)).await?;
    client.ensure_topic(NewTopic::new(VISITS, 6)).await?;
    let mut config = AppConfig::new(bootstrap, APPLICATION);
    config.http = Some(([127, 0, 0, 1], port).into());
    config.state_dir = std::env::temp_dir().join(format!("headwater-visits-{port}"));
    config.num_standby_replicas = 1;
    let app = StreamsApp::start(topology()?, config).await?;
    println!("http://127.0.0.1:{port}/stores/visits answers; Ctrl-C stops it");
    Ok(app.run_until_signal().await?)
}

async fn visit(page: &str, bootstrap: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::connect(ClientConfig::new(bootstrap, "visitor")).await?;
    let producer = Producer::new(&client, ProducerConfig::default()).await?;
    let record = ProduceRecord {
        topic: VISITS.to_owned(),
        key: Some("somebody".into()),
        value: Some(page.to_owned().into()),
        ..ProduceRecord::default()
    };
    let written = producer.send(record).await?.await?;
    let position = Position::of(&written).ok_or("the broker does not say where the record is")?;
    println!("/stores/visits/key/{page}?position={position}");
    Ok(())
}
