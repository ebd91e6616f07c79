//! One run, from an empty directory to the verdict.
//!
//! Owns the order of things: node, legacy database, bulk, outbox and weather, service, sink, the year, and then
//! patience until everything that was written has arrived. Whatever fails in the background ends the run.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use headwater_client::{Client, ClientConfig, ClientError};
use headwater_connect::SourceHandle;
use headwater_connect::sqlite::{Sink, SinkHandle, outbox};
use headwater_registry::RegistryClient;
use tokio::sync::oneshot;

use crate::background::{Background, Failures, result_of};
use crate::cluster::Cluster;
use crate::directory::Directory;
use crate::figures::Of;
use crate::legacy::{self, Lived, Plan};
use crate::living::Living;
use crate::options::Options;
use crate::oracle::{self, Dropped, Verdict};
use crate::report::Report;
use crate::settle::{self, Settling};
use crate::show::Show;
use crate::sources::{Connectors, LATE_TOPICS, SOURCE_TOPICS};

/// How long a new topic may take to appear.
const TOPIC_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Somebody wanted the run to end before its verdict.
#[derive(Debug)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "interrupted before the verdict; what was done so far stays where it is")
    }
}

impl std::error::Error for Interrupted {}

/// Lives the year and judges it, unless `interrupted` comes first. What is returned beside the report still runs; after
/// an error nothing does.
pub async fn live(
    options: &Options,
    show: &Show,
    interrupted: impl Future<Output = ()>,
) -> Result<(Report, Living)> {
    let begun = Instant::now();
    // Under `cargo run` this process has been cargo, and has the builds among its children.
    let cpu_before = Of::Itself.cpu_seconds().unwrap_or_default();
    let directory = Directory::prepare(options.data_dir.clone())?;
    show.say(&format!("data      {}", directory.path().display()));
    let (background, mut failures) = Background::new();
    let run = Run { options, directory, show, begun, cpu_before, background };
    let mut cluster = None;
    let done = tokio::select! {
        done = run.job(&mut cluster) => done,
        error = failures.first() => Err(error),
        () = interrupted => Err(Interrupted.into()),
    };
    show.clear();
    match (done, cluster) {
        (Ok((report, kept)), Some(cluster)) => Ok((report, kept.into_living(cluster, failures))),
        (Err(error), cluster) => {
            if let Some(cluster) = cluster {
                cluster.end().await;
            }
            Err(error)
        }
        (Ok(_), None) => unreachable!("a job that is done has started a cluster"),
    }
}

/// What a run is made of from its first moment.
struct Run<'a> {
    options: &'a Options,
    directory: Directory,
    show: &'a Show,
    begun: Instant,
    cpu_before: f64,
    background: Background,
}

/// The connectors that follow the legacy database, and the sink.
struct Flow {
    flights: Connector<SourceHandle>,
    weather: Connector<SourceHandle>,
    sink: Connector<SinkHandle>,
}

/// A connector that runs in the background, and the number of records it has moved when it ends.
struct Connector<H> {
    handle: H,
    moved: oneshot::Receiver<u64>,
}

impl Run<'_> {
    /// The cluster is the caller's, so that it can be ended wherever the job stops.
    async fn job(&self, cluster: &mut Option<Cluster>) -> Result<(Report, Kept)> {
        let cluster = cluster.insert(Cluster::start(self.options, &self.directory).await?);
        let ready = self.begun.elapsed();
        self.show.say(&format!("Kafka     {}\nconsole   {}", cluster.kafka, cluster.http));
        let connectors = self.connectors(cluster).await?;
        self.prepare_legacy(&connectors).await?;
        let (small, first_event) = self.publish_small_tables(&connectors).await?;

        let [flights, weather] = self.follow(&connectors);
        wait_for_topics(&connectors.client, &SOURCE_TOPICS).await?;
        let queries = cluster.start_service(self.options, &self.directory, &self.background).await?;
        self.show.say(&format!("queries   http://{queries}"));
        let flow = Flow { flights, weather, sink: self.sink(&connectors) };

        let lived_from = Instant::now();
        let large = self.live_the_year(flow, &connectors.client).await?;
        let (lived, took) = (lived_from.elapsed(), self.begun.elapsed());
        cluster.calm_down().await?;

        let dropped = Dropped {
            departures: settle::count(&connectors.client, LATE_TOPICS[0]).await?,
            legs: settle::count(&connectors.client, LATE_TOPICS[1]).await?,
        };
        let report = Report {
            verdict: self.judge().await?,
            dropped,
            dead_letters: large.lost,
            events: small + large.events,
            lived,
            took,
            cpu_seconds: Of::Itself.cpu_seconds().map(|own| own - self.cpu_before + cluster.cpu_seconds()),
            peak_rss_bytes: Of::Itself.peak_rss_bytes().map(|own| own + cluster.peak_rss_bytes()),
            ready,
            first_event,
            kills: self.options.kill_every.map(|_| cluster.kills()),
            data_dir: self.directory.path().to_owned(),
        };
        let kept = Kept {
            connectors,
            queries,
            directory: self.directory.clone(),
            background: self.background.clone(),
        };
        Ok((report, kept))
    }

    async fn connectors(&self, cluster: &Cluster) -> Result<Connectors> {
        let config = ClientConfig::new(&cluster.kafka, "headwater-demo");
        let client = Client::connect(config.security(self.options.security.clone())).await?;
        let mut suffix = String::new();
        if self.options.bootstrap.is_some() {
            refuse_a_used_cluster(&client).await?;
            // A former run's positions may still be there, and belong to another database.
            suffix = format!("-{}", jiff::Timestamp::now().as_second());
        }
        Ok(Connectors { client, registry: RegistryClient::new(&cluster.http), suffix })
    }

    async fn prepare_legacy(&self, connectors: &Connectors) -> Result<()> {
        let (legacy, stream) = (self.directory.legacy(), connectors.flights_stream(&self.directory.legacy()));
        blocking(move || {
            legacy::create(&legacy)?;
            legacy::load_small_tables(&legacy)?;
            let connection = rusqlite::Connection::open(&legacy)?;
            outbox::install(&connection, &stream).context("installing the outbox")
        })
        .await
    }

    /// Publishes the tables that do not change; returns the number of events and when the first was acknowledged.
    async fn publish_small_tables(&self, connectors: &Connectors) -> Result<(u64, Duration)> {
        let mut events = 0;
        let mut first = None;
        for source in connectors.bulk(&self.directory.legacy()) {
            events += source.run(std::future::pending()).await?;
            first.get_or_insert_with(|| self.begun.elapsed());
        }
        Ok((events, first.unwrap_or_default()))
    }

    fn follow(&self, connectors: &Connectors) -> [Connector<SourceHandle>; 2] {
        let legacy = self.directory.legacy();
        let (flights, weather) = (connectors.flights(&legacy), connectors.weather(&legacy));
        let (flights_handle, weather_handle) = (flights.handle(), weather.handle());
        let forever = std::future::pending;
        let flights =
            self.background.spawn("the flights source", async move { Ok(flights.run(forever()).await?) });
        let weather =
            self.background.spawn("the weather source", async move { Ok(weather.run(forever()).await?) });
        [
            Connector { handle: flights_handle, moved: flights },
            Connector { handle: weather_handle, moved: weather },
        ]
    }

    fn sink(&self, connectors: &Connectors) -> Connector<SinkHandle> {
        let config = connectors.sink(&self.directory.sink());
        let sink = Sink::new(config, connectors.client.clone(), connectors.registry.clone());
        let handle = sink.handle();
        let moved = self.background.spawn("the sink", async { Ok(sink.run(std::future::pending()).await?) });
        Connector { handle, moved }
    }

    /// The legacy program from its first to its last statement, and until all of it has arrived in the sink.
    async fn live_the_year(&self, flow: Flow, client: &Client) -> Result<Large> {
        let Flow { flights, weather, sink } = flow;
        let published = || flights.handle.published() + weather.handle.published();
        let work = async {
            let lived = self.legacy_program().await?;
            tracing::debug!(?lived, "the legacy program has ended");
            flights.handle.finish();
            weather.handle.finish();
            let events = result_of(flights.moved).await + result_of(weather.moved).await;
            let progress = || sink.handle.applied();
            Settling::new(client, headwater_flights::APPLICATION_ID).wait(progress).await?;
            sink.handle.finish();
            result_of(sink.moved).await;
            anyhow::Ok(events)
        };
        tokio::pin!(work);
        let events = loop {
            tokio::select! {
                events = &mut work => break events?,
                () = tokio::time::sleep(LOOK_EVERY) => self.show.tick(published(), sink.handle.applied()),
            }
        };
        let lost = flights.handle.set_aside() + weather.handle.set_aside() + sink.handle.dead_letters();
        Ok(Large { events, lost })
    }

    async fn legacy_program(&self) -> Result<Lived> {
        let (legacy, span, year) = (self.directory.legacy(), self.options.span, self.show.year());
        blocking(move || {
            let plan = Plan::of(span)?;
            year.steps.store(plan.len() as u64, Ordering::Relaxed);
            legacy::live(&legacy, &plan, |progress| {
                year.done.store(progress.done as u64, Ordering::Relaxed);
                year.clock.store(progress.clock, Ordering::Relaxed);
                ControlFlow::Continue(())
            })
        })
        .await
        .context("the legacy program")
    }

    async fn judge(&self) -> Result<Verdict> {
        let (directory, until) = (self.directory.path().to_owned(), self.options.span.until);
        blocking(move || oracle::check(&directory, until)).await.context("the oracle")
    }
}

/// What came of the tables that change.
struct Large {
    events: u64,
    lost: u64,
}

/// What goes on running, before it is known where its failures arrive.
struct Kept {
    connectors: Connectors,
    queries: std::net::SocketAddr,
    directory: Directory,
    background: Background,
}

impl Kept {
    fn into_living(self, cluster: Cluster, failures: Failures) -> Living {
        let Self { connectors, queries, directory, background } = self;
        Living { cluster, connectors, directory, queries, background, failures }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("a thread of the demo has ended")?
}

/// The demo's topics must be its own: what somebody else has written there would be part of the answer.
async fn refuse_a_used_cluster(client: &Client) -> Result<()> {
    let topics = client.topics().await?;
    let service = format!("{}-", headwater_flights::APPLICATION_ID);
    let ours = |name: &str| {
        SOURCE_TOPICS.contains(&name) || name.starts_with(&service) || settle::is_an_answer(name)
    };
    let there: Vec<_> = topics.iter().map(|topic| topic.name.as_str()).filter(|name| ours(name)).collect();
    ensure!(
        there.is_empty(),
        "{} has topics of the demo's names already: {}. If they are a former demo's, remove them with \
         `headwater topic delete`, otherwise use another cluster",
        client.bootstrap(),
        there.join(" "),
    );
    Ok(())
}

async fn wait_for_topics(client: &Client, names: &[&str]) -> Result<()> {
    let deadline = Instant::now() + TOPIC_WITHIN;
    for name in names {
        loop {
            match client.topic(name).await {
                Ok(Some(_)) => break,
                Ok(None) | Err(ClientError::UnknownTopic(_)) => {}
                Err(error) => return Err(error.into()),
            }
            if Instant::now() >= deadline {
                bail!("topic {name} has not appeared within {TOPIC_WITHIN:?} on {}", client.bootstrap());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}
