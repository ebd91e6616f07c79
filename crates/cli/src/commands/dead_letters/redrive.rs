//! Redriving: letters back to their topics, and what is done of the dead-letter topic, in one transaction each.
//!
//! A run that fails aborts its transaction. One that is killed leaves it open, and the next one, of the same transactional
//! id, aborts it before it asks what is done. So no letter is lost and none sent twice, whoever runs it how often.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use headwater_client::{Client, Committed, Delivery, GroupMetadata, ProduceRecord, Producer, ProducerConfig};
use headwater_model::{Record, TopicPartition};
use headwater_streams::DeadLetter;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::super::connect;
use super::Filter;
use super::letters::Letters;
use crate::Common;
use crate::output::{self, DATA, Failure};

#[derive(clap::Args)]
pub struct Redrive {
    /// The dead-letter topic
    topic: String,
    #[command(flatten)]
    filter: Filter,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Leave letters that have been sent back so often
    #[arg(long, default_value_t = 3, value_name = "COUNT")]
    max_redrives: u32,
    /// End after so many letters
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Letters in one transaction
    #[arg(long, default_value_t = 500, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// Into the partition of their key, where topics have other partitions now than when the letters were written
    #[arg(long)]
    by_key: bool,
}

/// How long a transaction is kept open for more letters: far less than its timeout, of a minute.
const LONGEST: Duration = Duration::from_secs(10);

/// What became of the letters.
#[derive(Default)]
struct Counts {
    settled: u64,
    filtered: u64,
    given_up: u64,
    unreadable: u64,
    homeless: u64,
}

/// Why a letter is left.
enum Left {
    Filtered,
    GivenUp,
    Unreadable(String),
    Homeless(String),
}

struct Run<'a> {
    options: &'a Redrive,
    common: &'a Common,
    client: Client,
    /// Whether letters are sent; otherwise they are only settled.
    sends: bool,
    partitions: HashMap<String, Option<i32>>,
    counts: Counts,
}

impl Redrive {
    pub fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    pub async fn run(self, common: &Common, sends: bool) -> Result<ExitCode, Failure> {
        let client = connect(common).await?;
        if !self.dry_run {
            output::to_the_end();
        }
        let group = &self.filter.chosen.group;
        // Before what is done is asked for: it aborts what a run that was killed left open.
        let producer = match self.dry_run {
            true => None,
            false => {
                let transactional_id = Some(format!("{group}-{}", self.topic));
                let config = ProducerConfig { transactional_id, ..ProducerConfig::default() };
                Some(Producer::new(&client, config).await?)
            }
        };
        let mut letters = Letters::open(&client, &self.topic, group, false).await?;
        let mut run = Run {
            options: &self,
            common,
            client,
            sends,
            partitions: HashMap::new(),
            counts: Counts::default(),
        };
        let bar = bar(letters.total(), common);
        let more = match &producer {
            Some(producer) => run.settle(producer, &mut letters, &bar).await,
            None => run.pretend(&mut letters).await,
        };
        if let (Some(producer), Err(_)) = (&producer, &more) {
            // Who reads the topics would wait for its timeout. What has failed is told, and not that this fails, too.
            let _ = tokio::time::timeout(LONGEST, producer.abort_transaction()).await;
        }
        bar.finish_and_clear();
        more?;
        Ok(run.tell())
    }
}

fn bar(total: u64, common: &Common) -> ProgressBar {
    if common.json {
        return ProgressBar::hidden();
    }
    // It draws on standard error, and only on a terminal.
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} offsets, {msg}");
    ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Whether a transaction is committed, which has taken so many letters and is open for so long. With a filter that takes few
/// of very many it would otherwise be open until its timeout, in every run anew.
fn is_full(taken: u64, batch: u64, open: Option<Duration>) -> bool {
    taken >= batch || open.is_some_and(|open| open >= LONGEST)
}

impl Run<'_> {
    fn is_over(&self) -> bool {
        self.options.limit.is_some_and(|limit| self.counts.settled >= limit)
    }

    async fn pretend(&mut self, letters: &mut Letters) -> Result<(), Failure> {
        while !self.is_over()
            && let Some((at, record)) = letters.next().await?
        {
            if letters.is_done(&at, record.offset) {
                continue;
            }
            match self.choose(&record).await? {
                Ok(letter) => {
                    self.counts.settled += 1;
                    let from = format!("{}/{}", letter.topic, letter.partition);
                    match self.common.json {
                        true => output::json(&json!({
                            "letter": format!("{at}@{}", record.offset), "to": self.sends.then_some(from),
                            "redrives": letter.redrives,
                        })),
                        false if self.sends => output::line(&format!("{at}@{} → {from}", record.offset)),
                        false => output::line(&format!("{at}@{} ✗", record.offset)),
                    }
                }
                Err(left) => self.leave(&at, &record, left),
            }
        }
        Ok(())
    }

    /// One transaction after the other, until the topic's end.
    async fn settle(
        &mut self,
        producer: &Producer,
        letters: &mut Letters,
        bar: &ProgressBar,
    ) -> Result<(), Failure> {
        let mut ended = false;
        while !ended {
            let mut passed: HashMap<TopicPartition, i64> = HashMap::new();
            let (mut taken, mut deliveries) = (0, Vec::new());
            let mut begun: Option<Instant> = None;
            while !is_full(taken, self.options.batch, begun.map(|begun| begun.elapsed())) {
                let next = if self.is_over() { None } else { letters.next().await? };
                let Some((at, record)) = next else {
                    ended = true;
                    break;
                };
                let done = letters.is_done(&at, record.offset);
                let chosen = if done { None } else { Some(self.choose(&record).await?) };
                let settled = match chosen {
                    None => true,
                    Some(Ok(letter)) => {
                        if taken == 0 {
                            producer.begin_transaction().await?;
                            begun = Some(Instant::now());
                        }
                        if self.sends {
                            deliveries.push(producer.send(self.redriven(&letter, &record)).await?);
                        }
                        taken += 1;
                        self.counts.settled += 1;
                        true
                    }
                    Some(Err(left)) => {
                        self.leave(&at, &record, left);
                        false
                    }
                };
                letters.pass(&at, record.offset, settled);
                bar.inc(1);
                passed.insert(at, record.offset);
            }
            if taken > 0 {
                self.commit(producer, letters, &passed, deliveries).await?;
                bar.set_message(format!("{} settled", output::count(self.counts.settled, "letter")));
            }
        }
        Ok(())
    }

    async fn commit(
        &mut self,
        producer: &Producer,
        letters: &Letters,
        passed: &HashMap<TopicPartition, i64>,
        deliveries: Vec<Delivery>,
    ) -> Result<(), Failure> {
        let mut offsets: HashMap<TopicPartition, Committed> = HashMap::new();
        for (at, offset) in passed {
            let Ok(committed) = letters.committed(at, *offset) else {
                let what = format!(
                    "the letters left between those chosen of {at} are too many to remember; what was said to be settled before \
                     offset {offset} stays so"
                );
                let next = "settle what lies between first, with a wider filter, or with discard".to_owned();
                return Err(Failure::new(DATA, what, next));
            };
            offsets.insert(at.clone(), committed);
        }
        let group = GroupMetadata::simple(&self.options.filter.chosen.group);
        producer.send_offsets(&group, &offsets).await?;
        producer.commit_transaction().await?;
        for delivery in deliveries {
            delivery.await?;
        }
        if self.common.json {
            output::json(&json!({ "progress": { "settled": self.counts.settled } }));
        }
        Ok(())
    }

    fn redriven(&self, letter: &DeadLetter, record: &Record) -> ProduceRecord {
        ProduceRecord {
            topic: letter.topic.clone(),
            partition: (!self.options.by_key).then_some(letter.partition),
            timestamp: Some(record.timestamp),
            key: record.key.clone(),
            value: record.value.clone(),
            headers: letter.redriven_headers(record),
        }
    }

    /// Whether the letter is one of those to be settled, and can be.
    async fn choose(&mut self, record: &Record) -> Result<Result<DeadLetter, Left>, Failure> {
        let letter = match DeadLetter::read(record) {
            Ok(letter) => letter,
            Err(error) => return Ok(Err(Left::Unreadable(error.to_string()))),
        };
        if !self.options.filter.takes(record, &letter) {
            return Ok(Err(Left::Filtered));
        }
        if !self.sends {
            return Ok(Ok(letter));
        }
        if letter.redrives >= self.options.max_redrives {
            return Ok(Err(Left::GivenUp));
        }
        if record.key.is_none() && record.value.is_none() {
            let why = "it has neither key nor value: a result failed that is of no single record (a window that closed); look at its message, then discard it";
            return Ok(Err(Left::Homeless(why.to_owned())));
        }
        let known = match self.partitions.get(&letter.topic) {
            Some(known) => *known,
            None => {
                let found = self.client.topic(&letter.topic).await?.map(|topic| topic.partitions);
                self.partitions.insert(letter.topic.clone(), found);
                found
            }
        };
        Ok(match known {
            None => Err(Left::Homeless(format!("topic {} does not exist", letter.topic))),
            Some(count) if letter.partition >= count && !self.options.by_key => Err(Left::Homeless(format!(
                "topic {} has {count} partitions, so no partition {}; --by-key sends it to that of its key",
                letter.topic, letter.partition
            ))),
            Some(_) => Ok(letter),
        })
    }

    fn leave(&mut self, at: &TopicPartition, record: &Record, left: Left) {
        let (counter, why) = match left {
            Left::Filtered => {
                self.counts.filtered += 1;
                return;
            }
            Left::GivenUp => (
                &mut self.counts.given_up,
                format!("it was sent back {} times; --max-redrives allows more", self.options.max_redrives),
            ),
            Left::Unreadable(why) => (&mut self.counts.unreadable, why),
            Left::Homeless(why) => (&mut self.counts.homeless, why),
        };
        *counter += 1;
        output::note(&format!("left: {at}@{}: {why}", record.offset));
    }

    /// The summary; 1 where letters that were meant could not be settled.
    fn tell(self) -> ExitCode {
        let Counts { settled, filtered, given_up, unreadable, homeless } = self.counts;
        let done = if self.sends { "redriven" } else { "discarded" };
        if self.common.json {
            output::json(&json!({
                "topic": self.options.topic, done: settled, "dry_run": self.options.dry_run,
                "left": { "filtered": filtered, "given_up": given_up, "unreadable": unreadable, "homeless": homeless },
            }));
        } else {
            let would = if self.options.dry_run { "would be " } else { "" };
            let letters = output::count(settled, "letter");
            output::note(&format!(
                "{letters} {would}{done}; left: {filtered} by the filter, {given_up} sent back too often, \
                 {homeless} without a place to go, {unreadable} that are no dead letters"
            ));
        }
        if given_up + unreadable + homeless == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_does_not_stay_open_for_letters_that_a_filter_leaves() {
        assert!(!is_full(0, 500, None) && !is_full(499, 500, Some(Duration::ZERO)));
        assert!(is_full(500, 500, Some(Duration::ZERO)) && is_full(1, 500, Some(LONGEST)));
    }
}
