//! The end of a run: nothing is left open, and everything that is there is read.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use headwater_client::{Client, Isolation, OffsetSpec, Producer, ProducerConfig};
use headwater_history::{EventKind, Step};
use headwater_model::TopicPartition;

use super::{OWN, Recorder, connect, keys, ours, transactional_id};

const PATIENCE: Duration = Duration::from_secs(60);
const READER: &str = "last";

/// Ends the transactions that processes left open, and reads every partition to its end.
pub async fn read_everything(address: &str, count: u32, recorder: &Recorder) -> Result<()> {
    let client = connect(address, READER, Duration::from_secs(10)).await?;
    for number in 0..count {
        let config =
            ProducerConfig { transactional_id: Some(transactional_id(number)), ..ProducerConfig::default() };
        let ended = Producer::new(&client, config).await;
        ended.with_context(|| format!("ending what process {number} left open"))?;
    }
    let keys = keys(count);
    let ends = ends(&client, &keys).await?;
    recorder.note(READER, 0, EventKind::Invoke, Vec::new());
    let mut steps = read(&client, &keys, &ends).await?;
    for number in 0..count {
        let (group, at) = (transactional_id(number), TopicPartition::new(OWN, number as i32));
        let committed = client.committed(&group, Some(std::slice::from_ref(&at))).await?;
        let offset = committed.get(&at).map(|committed| committed.offset);
        steps.push(Step::Found { group, key: ours::key(OWN, number as i32), offset });
    }
    recorder.note(READER, 0, EventKind::Ok, steps);
    Ok(())
}

async fn ends(client: &Client, keys: &[(String, i32)]) -> Result<HashMap<TopicPartition, i64>> {
    let ask: Vec<_> = keys
        .iter()
        .map(|(topic, partition)| (TopicPartition::new(&**topic, *partition), OffsetSpec::Latest))
        .collect();
    let ends = client.list_offsets(&ask, Isolation::Uncommitted).await?;
    let begun = Instant::now();
    loop {
        let stable = client.list_offsets(&ask, Isolation::Committed).await?;
        let held: Vec<_> = ends.iter().filter(|(at, end)| stable.get(at) < Some(end)).collect();
        if held.is_empty() {
            return Ok(ends);
        }
        if begun.elapsed() > PATIENCE {
            bail!("transactions stay open although every producer was ended: {held:?}, stable: {stable:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn read(
    client: &Client,
    keys: &[(String, i32)],
    ends: &HashMap<TopicPartition, i64>,
) -> Result<Vec<Step>> {
    // Also partitions without a record have been read.
    let nothing = keys.iter().map(|(topic, partition)| Step::Poll {
        key: ours::key(topic, *partition),
        records: Vec::new(),
        uncommitted: false,
        last: true,
    });
    let mut steps: Vec<Step> = nothing.collect();
    let mut consumer = ours::consumer(client, keys);
    let begun = Instant::now();
    loop {
        let left: Vec<_> =
            ends.iter().filter(|(at, end)| consumer.position(at) < Some(**end)).map(|(at, _)| at).collect();
        if left.is_empty() {
            return Ok(steps);
        }
        if begun.elapsed() > PATIENCE {
            bail!("the end of {left:?} is not reached");
        }
        steps.extend(ours::polled(consumer.poll(Duration::from_millis(200)).await?, true));
    }
}
