//! How long reading something will take: by reading some of it, or by how fast an instance has been.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use headwater_client::{Client, Consumer, ConsumerConfig, without_password};
use headwater_model::{Offset, TopicPartition};
use reqwest::Method;
use serde_json::Value;

use super::http;
use crate::Common;
use crate::output::{DATA, Failure, UNAVAILABLE};

/// What reading for a while taught.
#[derive(Default)]
pub struct Sample {
    pub offsets: i64,
    pub records: u64,
    pub bytes: u64,
    pub seconds: f64,
}

/// From which offset to which.
pub type Parts = BTreeMap<TopicPartition, (Offset, Offset)>;

impl Sample {
    /// Reads from where each partition begins, until all are read or `patience` ends.
    pub async fn take(client: &Client, parts: &Parts, patience: Duration) -> Result<Self, Failure> {
        let mut sample = Self::default();
        let mut left: HashMap<&TopicPartition, Offset> =
            parts.iter().filter(|(_, (from, end))| from < end).map(|(at, (_, end))| (at, *end)).collect();
        let mut places: HashMap<TopicPartition, Offset> =
            left.keys().map(|at| ((*at).clone(), parts[*at].0)).collect();
        let mut consumer = Consumer::new(client, ConsumerConfig::default());
        consumer.assign(places.iter().map(|(at, from)| (at.clone(), *from)).collect());
        let begun = Instant::now();
        while !left.is_empty() && begun.elapsed() < patience {
            for fetched in consumer.poll(patience.saturating_sub(begun.elapsed())).await? {
                let at = &fetched.topic_partition;
                let place = places.insert(at.clone(), fetched.next_offset);
                sample.offsets += fetched.next_offset - place.unwrap_or(fetched.next_offset);
                sample.records += fetched.records.len() as u64;
                for record in &fetched.records {
                    let of =
                        |bytes: &Option<headwater_model::Bytes>| bytes.as_ref().map_or(0, |b| b.len() as u64);
                    let headers =
                        record.headers.iter().map(|h| h.key.len() as u64 + of(&h.value)).sum::<u64>();
                    sample.bytes += of(&record.key) + of(&record.value) + headers;
                }
                if left.get(at).is_some_and(|end| fetched.next_offset >= *end) {
                    left.remove(at);
                }
            }
        }
        sample.seconds = begun.elapsed().as_secs_f64();
        Ok(sample)
    }
}

/// What an estimate of time goes by.
#[derive(clap::Args)]
pub struct Speed {
    /// An instance whose measured speed the estimate goes by: http://HOST:PORT, or https:// with --command-config
    #[arg(long, value_name = "URL")]
    instance: Option<String>,
    /// The speed that the estimate goes by, of all instances together
    #[arg(long, value_name = "NUMBER", conflicts_with = "instance", value_parser = speed)]
    records_per_second: Option<f64>,
}

fn speed(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "it is a number above 0".to_owned())
}

impl Speed {
    /// Records in a second, and how that is known.
    pub async fn of(
        &self,
        sample: &Sample,
        application: &str,
        common: &Common,
    ) -> Result<(f64, String), Failure> {
        if let Some(given) = self.records_per_second {
            return Ok((given, "as given".to_owned()));
        }
        let Some(instance) = &self.instance else {
            let speed = if sample.seconds > 0.0 { sample.records as f64 / sample.seconds } else { 0.0 };
            return Ok((speed, "of reading here, so at most; --instance measures processing".to_owned()));
        };
        let answer = told(instance, common).await?;
        let instance = without_password(instance);
        if answer["application_id"].as_str() != Some(application) {
            let what =
                format!("{instance} is an instance of {}, not of {application}", answer["application_id"]);
            return Err(Failure::new(DATA, what, None));
        }
        let counter = |name: &str| answer["metrics"][name].as_f64().unwrap_or(0.0);
        let busy = (counter("process_micros") + counter("commit_micros")) / 1e6;
        if busy <= 0.0 || counter("records_in") <= 0.0 {
            let what = format!("{instance} has processed nothing yet, so that its speed is not known");
            return Err(Failure::new(DATA, what, "give --records-per-second".to_owned()));
        }
        let by = "that a thread of the instance had while it was busy, alone".to_owned();
        Ok((counter("records_in") / busy, by))
    }
}

/// What an instance says of itself, to whoever `--command-config` says.
async fn told(instance: &str, common: &Common) -> Result<Value, Failure> {
    let security = common.security()?;
    let otherwise = "name an instance that runs";
    let asked = http::Asked { security: security.http(), whom: "instance", otherwise };
    let url = http::base(&format!("{}/topology", instance.trim_end_matches('/')), "--instance")?;
    let text = asked.answer(&url, asked.request(Method::GET, &url).await?, UNAVAILABLE).await?;
    serde_json::from_str(&text).map_err(|error| {
        let url = without_password(url.as_str());
        Failure::new(DATA, format_args!("{url} answers no JSON: {error}"), otherwise.to_owned())
    })
}

/// Estimates have no end of their own, and times have.
pub fn for_seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// `2h 05m`, `3m 20s`, `12s`.
pub fn plain(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_speed_is_too_low_for_an_estimate() {
        assert_eq!(speed("0.5"), Ok(0.5));
        for wrong in ["0", "-5", "NaN", "inf", "fast"] {
            assert!(speed(wrong).is_err(), "{wrong}");
        }
        assert_eq!(for_seconds(1e300), Duration::MAX);
        assert_eq!(plain(for_seconds(7500.4)), "2h 05m");
    }
}
