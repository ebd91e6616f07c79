//! What still runs after the verdict: it is stopped, or kept for whoever wants to look around.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use headwater_connect::sqlite::Sink;
use tokio::sync::{oneshot, watch};

use crate::background::{Background, Failures};
use crate::cluster::Cluster;
use crate::directory::Directory;
use crate::options::Options;
use crate::sources::Connectors;

/// A demo whose year is over.
pub struct Living {
    pub(crate) cluster: Cluster,
    pub(crate) connectors: Connectors,
    pub(crate) directory: Directory,
    pub(crate) queries: SocketAddr,
    pub(crate) background: Background,
    pub(crate) failures: Failures,
}

impl Living {
    /// Follows the legacy database and serves until `end`, or until something fails.
    pub async fn stay(mut self, options: &Options, end: impl Future<Output = ()>) -> Result<()> {
        let (stop, stopping) = watch::channel(false);
        let connectors = self.follow(&stopping);
        self.cluster.watch_over(options, &self.background);
        let failed = tokio::select! {
            error = self.failures.first() => Err(error),
            () = end => Ok(()),
        };
        stop.send_replace(true);
        for connector in connectors {
            // One that has failed is the failure that is reported.
            let _ = connector.await;
        }
        failed.and(self.stop().await)
    }

    /// Stops everything, the last one first.
    pub async fn stop(self) -> Result<()> {
        self.cluster.stop().await.context("stopping")
    }

    /// Starts the sources and the sink again: they go on where they ended.
    fn follow(&self, stopping: &watch::Receiver<bool>) -> [oneshot::Receiver<u64>; 3] {
        let Self { connectors, directory, background, .. } = self;
        let legacy = directory.legacy();
        let (flights, weather) = (connectors.flights(&legacy), connectors.weather(&legacy));
        let sink = connectors.sink(&directory.sink());
        let sink = Sink::new(sink, connectors.client.clone(), connectors.registry.clone());
        let stops = [(); 3].map(|()| stopped(stopping.clone()));
        let [first, second, third] = stops;
        [
            background.spawn("the flights source", async { Ok(flights.run(first).await?) }),
            background.spawn("the weather source", async { Ok(weather.run(second).await?) }),
            background.spawn("the sink", async { Ok(sink.run(third).await?) }),
        ]
    }

    /// What to try while it is kept.
    pub fn hints(&self, options: &Options) -> String {
        let headwater = options.executable.display();
        let (kafka, http, queries) = (&self.cluster.kafka, &self.cluster.http, self.queries);
        let dir = self.directory.path().display();
        let day = options.span.day(jiff::civil::date(2013, 1, 4));
        // Of the second day, where there is one.
        let flight = if day.day() > 1 { 1545 } else { 545 };
        format!(
            "\
It goes on until Ctrl-C. In another terminal:

  The console
    {http}
  What happens, as it happens (change the legacy database, see below)
    {headwater} tail flights.enriched --decode --bootstrap {kafka} --registry {http}
  All events of one flight: when, which, and how many bytes
    kcat -b {kafka} -C -t flights -o beginning -e -q -f '%T %k %S\\n' | grep ' {flight} '
  The hours of one airport, decoded
    {headwater} tail departures.hourly --decode --from-beginning --no-follow --bootstrap {kafka} --registry {http} | grep JFK
  What the service can be asked, and an answer
    curl {queries}/stores
    curl '{queries}/stores/departures-by-hour?key=EWR&from={day}T10:00:00Z&to={day}T20:00:00Z'
  The worst routes
    sqlite3 {dir}/sink.sqlite 'SELECT * FROM worst_routes ORDER BY mean_arr_delay_minutes DESC LIMIT 5'
  Change the legacy database, and see the answer change
    sqlite3 {dir}/legacy.sqlite \"UPDATE flights SET arr_delay = 999 WHERE id = {flight}\"
    sqlite3 {dir}/sink.sqlite 'SELECT arr_delay_minutes FROM enriched_flights WHERE id = {flight}'
"
        )
    }
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stopping.wait_for(|stop| *stop).await;
}
