//! How many rows per second go through the outbox source and the sink, by the clock and by the processor.
//!
//! `HEADWATER_TEST_BOOTSTRAP=127.0.0.1:9092 cargo run --example connect-throughput -p headwater-connect -- 300000`
//! The broker is another process, so the processor's time is that of the connector, SQLite and the client.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use headwater_client::{Client, ClientConfig};
use headwater_connect::sqlite::{OutboxSource, Sink, SinkConfig, SinkStream, TableStream, outbox};
use headwater_registry::{Registry, RegistryClient};
use rusqlite::Connection;

type Failure = Box<dyn std::error::Error>;

const FLIGHTS: &str = "PRAGMA synchronous = normal; CREATE TABLE flights (id INTEGER PRIMARY KEY, carrier TEXT NOT NULL, \
     flight INTEGER NOT NULL, tailnum TEXT, origin TEXT NOT NULL, dest TEXT NOT NULL, time_hour TEXT NOT NULL, \
     scheduled_at INTEGER NOT NULL, departed_at INTEGER, landed_at INTEGER, dep_delay INTEGER, arr_delay INTEGER, \
     air_time INTEGER, distance INTEGER NOT NULL, status TEXT NOT NULL, happened_at INTEGER NOT NULL)";

const FILL: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
     INSERT INTO flights SELECT i, 'UA', i % 2000, printf('N%05d', i % 4000), 'EWR', 'IAH', '2013-01-01T10:00:00Z', \
     1357034400000 + i * 94000, NULL, NULL, NULL, NULL, NULL, 1400, 'scheduled', 1357034400000 + i * 94000 FROM n";

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let rows: i64 = std::env::args().nth(1).map_or(Ok(300_000), |rows| rows.parse())?;
    let client =
        Client::connect(ClientConfig::new(std::env::var("HEADWATER_TEST_BOOTSTRAP")?, "throughput")).await?;
    let registry = serve(client.clone()).await?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("legacy.sqlite");
    let topic = format!("flights-{}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis());
    let stream = TableStream::new(&topic, &path, "flights", &topic)
        .partitions(4)
        .event_time("happened_at")
        .timestamps(&["scheduled_at", "departed_at", "landed_at", "happened_at"]);

    let database = Connection::open(&path)?;
    database.execute_batch(FLIGHTS)?;
    outbox::install(&database, &stream)?;
    let begun = Measure::begin()?;
    database.execute(FILL, [rows])?;
    let update = "UPDATE flights SET status = 'departed', departed_at = happened_at + 600000, dep_delay = 10, happened_at = happened_at + 600000";
    database.execute(update, [])?;
    begun.tell("two changes of each row, with triggers", 2 * rows as u64)?;

    let source = OutboxSource::new(stream, client.clone(), registry.clone());
    source.handle().finish();
    let begun = Measure::begin()?;
    let published = source.run(std::future::pending()).await?;
    begun.tell("outbox to topic", published)?;

    let streams = vec![SinkStream::new(&topic, "flights")];
    let config = SinkConfig { name: topic.clone(), database: directory.path().join("sink.sqlite"), streams };
    let sink = Sink::new(config, client, registry);
    sink.handle().finish();
    let begun = Measure::begin()?;
    let applied = sink.run(std::future::pending()).await?;
    begun.tell("topic to sink", applied)
}

async fn serve(client: Client) -> Result<RegistryClient, Failure> {
    let registry = Registry::start(client).await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, registry.router()).await });
    Ok(RegistryClient::new(format!("http://{address}")))
}

struct Measure {
    begun: Instant,
    processor: Duration,
}

impl Measure {
    fn begin() -> Result<Self, Failure> {
        Ok(Self { begun: Instant::now(), processor: processor_time()? })
    }

    fn tell(self, what: &str, rows: u64) -> Result<(), Failure> {
        let (wall, processor) = (self.begun.elapsed(), processor_time()? - self.processor);
        let rate = |time: Duration| rows as f64 / time.as_secs_f64();
        println!(
            "{what}: {rows} rows, {:.0}/s by the clock, {:.0}/s of one core",
            rate(wall),
            rate(processor)
        );
        Ok(())
    }
}

/// User and system time of this process (`proc_pid_stat(5)`, fields 14 and 15, in hundredths of a second).
fn processor_time() -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks =
        after_name.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}
