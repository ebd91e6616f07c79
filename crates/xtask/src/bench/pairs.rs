//! Interleaved pairs: A B, B A, A B, …, each figure set against the one measured next to it.

use std::time::Instant;

use anyhow::{Context as _, Result};

use super::context::Context;
use super::outcome::{Compared, Contestant, Metric, Outcome, Sample};
use super::record;
use super::server::{Durability, Side};
use super::stats::median;

/// Who is measured, and in which durability class.
#[derive(Clone, Copy)]
pub struct Entry {
    pub side: Side,
    /// What tables call it.
    server: &'static str,
    pub durability: Option<Durability>,
}

impl Entry {
    pub const fn new(side: Side, durability: Durability) -> Self {
        Self { side, server: side.name(), durability: Some(durability) }
    }

    /// A peer other than Apache Kafka, by its name, version and mode.
    pub const fn other(server: &'static str, durability: Durability) -> Self {
        Self { side: Side::Peer, server, durability: Some(durability) }
    }

    pub fn plain(side: Side) -> Self {
        Self { side, server: side.name(), durability: None }
    }

    /// The topic configuration of its class.
    pub fn configs(&self) -> Vec<(&'static str, &'static str)> {
        self.durability.and_then(|durability| durability.config(self.side)).into_iter().collect()
    }

    pub fn name(&self) -> String {
        let class = self.durability.map(|durability| format!(" {}", durability.name()));
        format!("{}{}", self.server, class.unwrap_or_default())
    }
}

pub struct Case<'a> {
    pub bench: &'a str,
    pub name: &'a str,
    pub ours: Entry,
    pub peer: Entry,
    pub metrics: &'a [Metric],
    pub pairs: usize,
}

impl Case<'_> {
    /// Measures all pairs. `measure` is one run of one entry.
    pub fn run(
        &self,
        context: &Context,
        mut measure: impl FnMut(&Entry) -> Result<(Sample, String)>,
    ) -> Result<Outcome> {
        let (mut ours, mut peer) = (Vec::new(), Vec::new());
        let mut contestants =
            [&self.ours, &self.peer].map(|entry| Contestant::new(entry.server, entry.durability));
        let begun = Instant::now();
        for pair in 0..self.pairs {
            let order = if pair % 2 == 0 { [0, 1] } else { [1, 0] };
            for (turn, which) in order.into_iter().enumerate() {
                let entry = [&self.ours, &self.peer][which];
                self.say(pair, turn, entry, begun);
                let measured = measure(entry);
                let (sample, server) = measured.with_context(|| entry.name())?;
                record::append(context, self.bench, self.name, &entry.name(), &sample)?;
                let contestant = &mut contestants[which];
                contestant.server = server;
                contestant.driver.clone_from(&sample.driver);
                contestant.driver_bound |= sample.driver_bound;
                [&mut ours, &mut peer][which].push(sample);
            }
        }
        let compared = self.metrics.iter().filter_map(|metric| Compared::of(metric, &ours, &peer));
        Ok(Outcome {
            case: self.name.to_owned(),
            pairs: self.pairs,
            contestants: contestants.to_vec(),
            compared: compared.collect(),
            notes: self.loads(&ours, &peer),
            failure: None,
        })
    }

    /// How many cores server and driver kept busy: whether one of them, or neither, decided the clock.
    fn loads(&self, ours: &[Sample], peer: &[Sample]) -> Vec<String> {
        let busy = |samples: &[Sample], key: &str| -> Option<f64> {
            let values: Vec<f64> =
                samples.iter().filter_map(|sample| sample.values.get(key).copied()).collect();
            (!values.is_empty()).then(|| median(&values))
        };
        let line = |(entry, samples): (&Entry, &[Sample])| {
            let (server, driver) = (busy(samples, "server busy")?, busy(samples, "driver busy")?);
            Some(format!("{}: the server kept {server:.2} cores busy, the driver {driver:.2}", entry.name()))
        };
        [(&self.ours, ours), (&self.peer, peer)].into_iter().filter_map(line).collect()
    }

    fn say(&self, pair: usize, turn: usize, entry: &Entry, begun: Instant) {
        let done = pair * 2 + turn;
        let left = if done == 0 {
            String::new()
        } else {
            let each = begun.elapsed().as_secs_f64() / done as f64;
            format!(", {:.0} s left of this case", each * (self.pairs * 2 - done) as f64)
        };
        let (bench, name, pairs) = (self.bench, self.name, self.pairs);
        eprintln!("bench: {bench}, {name}: pair {} of {pairs}, {}{left}", pair + 1, entry.name());
    }
}
