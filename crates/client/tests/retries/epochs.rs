//! A consumer whose partition gets another leader, with the same log or with one that was cut back (KIP-320).

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use headwater_client::{
    AutoOffsetReset, Client, ClientConfig, ClientError, Consumer, ConsumerConfig, ErrorCode, Position,
};
use headwater_model::TopicPartition;
use headwater_wire::messages::fetch_response::{
    EpochEndOffset as Diverging, FetchableTopicResponse, PartitionData,
};
use headwater_wire::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use headwater_wire::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use headwater_wire::messages::{
    FetchRequestData, FetchResponseData, ListOffsetsRequestData, ListOffsetsResponseData,
    OffsetForLeaderEpochRequestData, OffsetForLeaderEpochResponseData,
};
use headwater_wire::{ApiKey, BatchBuilder, Compression, batch};

use crate::scripted::{self, Asked, TOPIC};

const VERSIONS: [(ApiKey, i16); 3] =
    [(ApiKey::Fetch, 12), (ApiKey::ListOffsets, 5), (ApiKey::OffsetForLeaderEpoch, 4)];
const PATIENCE: Duration = Duration::from_secs(20);

/// A partition's leader, as Kafka's is: each record is a batch of the epoch it was written in.
#[derive(Default)]
struct Leader {
    log: Vec<(&'static str, i32)>,
    epoch: i32,
    /// What metadata says, when that is not known to the broker yet or any more.
    announced: Option<i32>,
    /// Each fetch's offset, current and last epoch.
    fetched: Vec<(i64, i32, i32)>,
    /// What was asked of epochs: the current one and the one read.
    validated: Vec<(i32, i32)>,
}

impl Leader {
    /// Kafka's rule: the last epoch up to this one, and where it ends.
    fn end_of(&self, epoch: i32) -> (i32, i64) {
        let end = self.log.iter().take_while(|(_, written)| *written <= epoch).count();
        let known = self.log[..end].last().map_or(-1, |(_, written)| *written);
        if epoch == self.epoch { (epoch, self.log.len() as i64) } else { (known, end as i64) }
    }

    fn check(&self, current: i32) -> ErrorCode {
        match current {
            -1 => ErrorCode::None,
            older if older < self.epoch => ErrorCode::FencedLeaderEpoch,
            newer if newer > self.epoch => ErrorCode::UnknownLeaderEpoch,
            _ => ErrorCode::None,
        }
    }

    fn answer(&mut self, mut asked: Asked<'_>) -> Option<()> {
        let version = asked.version;
        match asked.key {
            ApiKey::Fetch => {
                let request = FetchRequestData::read(&mut asked.body, version).unwrap();
                let wanted = &request.topics[0].partitions[0];
                let data =
                    self.fetch(wanted.fetch_offset, wanted.current_leader_epoch, wanted.last_fetched_epoch);
                let topic = FetchableTopicResponse::default()
                    .with_topic(TOPIC.to_owned().into())
                    .with_partitions(vec![data]);
                FetchResponseData::default()
                    .with_responses(vec![topic])
                    .write(asked.answer, version)
                    .unwrap();
            }
            ApiKey::ListOffsets => {
                let request = ListOffsetsRequestData::read(&mut asked.body, version).unwrap();
                let latest = request.topics[0].partitions[0].timestamp == -1;
                let offset = if latest { self.log.len() as i64 } else { 0 };
                let topic = ListOffsetsTopicResponse::default()
                    .with_name(TOPIC.to_owned().into())
                    .with_partitions(vec![ListOffsetsPartitionResponse::default().with_offset(offset)]);
                ListOffsetsResponseData::default()
                    .with_topics(vec![topic])
                    .write(asked.answer, version)
                    .unwrap();
            }
            ApiKey::OffsetForLeaderEpoch => {
                let request = OffsetForLeaderEpochRequestData::read(&mut asked.body, version).unwrap();
                assert_eq!(request.replica_id, -1);
                let wanted = &request.topics[0].partitions[0];
                self.validated.push((wanted.current_leader_epoch, wanted.leader_epoch));
                let code = self.check(wanted.current_leader_epoch);
                let (epoch, end) = self.end_of(wanted.leader_epoch);
                let end = EpochEndOffset::default()
                    .with_error_code(code.code())
                    .with_leader_epoch(epoch)
                    .with_end_offset(end);
                let topic = OffsetForLeaderTopicResult::default()
                    .with_topic(TOPIC.to_owned().into())
                    .with_partitions(vec![end]);
                OffsetForLeaderEpochResponseData::default()
                    .with_topics(vec![topic])
                    .write(asked.answer, version)
                    .unwrap();
            }
            other => panic!("{other:?}"),
        }
        Some(())
    }

    fn fetch(&mut self, from: i64, current: i32, last: i32) -> PartitionData {
        self.fetched.push((from, current, last));
        let end = self.log.len() as i64;
        let data = PartitionData::default().with_high_watermark(end).with_last_stable_offset(end);
        let code = self.check(current);
        if code.is_error() {
            return data.with_error_code(code.code());
        }
        let (epoch, until) = self.end_of(last);
        if last >= 0 && (epoch < last || until < from) {
            return data.with_diverging_epoch(Diverging::default().with_epoch(epoch).with_end_offset(until));
        }
        if from > end {
            return data.with_error_code(ErrorCode::OffsetOutOfRange.code());
        }
        let mut records = BytesMut::new();
        for (offset, (value, epoch)) in self.log.iter().enumerate().skip(from as usize) {
            let mut builder = BatchBuilder::new();
            builder.push(0, None, Some(value.as_bytes()), &[]);
            let mut one = BytesMut::from(&builder.build(Compression::None, None, false).unwrap()[..]);
            batch::assign_offset(&mut one, offset as i64, *epoch);
            records.extend_from_slice(&one);
        }
        if records.is_empty() {
            std::thread::sleep(Duration::from_millis(20));
        }
        data.with_records(Some(records.freeze()))
    }
}

struct Scene {
    leader: Arc<Mutex<Leader>>,
    consumer: Consumer,
}

fn at() -> TopicPartition {
    TopicPartition::new(TOPIC, 0)
}

impl Scene {
    /// A leader of epoch 1 with `a b c`.
    async fn new(policy: AutoOffsetReset) -> Self {
        Self::with(&VERSIONS, policy).await
    }

    async fn with(versions: &[(ApiKey, i16)], policy: AutoOffsetReset) -> Self {
        let log = vec![("a", 0), ("b", 1), ("c", 1)];
        let leader = Arc::new(Mutex::new(Leader { log, epoch: 1, ..Leader::default() }));
        let (says, answers) = (Arc::clone(&leader), Arc::clone(&leader));
        let epochs = move || {
            let leader = says.lock().unwrap();
            vec![leader.announced.unwrap_or(leader.epoch)]
        };
        let script = move |asked: Asked<'_>| answers.lock().unwrap().answer(asked);
        let address = scripted::start(versions, epochs, script).await;
        let client = Client::connect(ClientConfig::new(address, "epochs")).await.unwrap();
        let config = ConsumerConfig {
            auto_offset_reset: policy,
            isolation: headwater_client::Isolation::Uncommitted,
            max_wait: Duration::from_millis(50),
            ..ConsumerConfig::default()
        };
        Self { leader, consumer: Consumer::new(&client, config) }
    }

    /// The same after all of it was read.
    async fn read(policy: AutoOffsetReset) -> Self {
        let mut scene = Self::new(policy).await;
        scene.read_all().await;
        scene
    }

    async fn read_all(&mut self) {
        self.consumer.assign(vec![(at(), 0)]);
        assert_eq!(self.take(3).await, ["a", "b", "c"]);
    }

    fn leader(&self) -> MutexGuard<'_, Leader> {
        self.leader.lock().unwrap()
    }

    /// Another replica leads, with this log.
    fn elect(&self, epoch: i32, log: &[(&'static str, i32)]) {
        let mut leader = self.leader();
        (leader.epoch, leader.log) = (epoch, log.to_vec());
        leader.fetched.clear();
    }

    async fn take(&mut self, count: usize) -> Vec<String> {
        let (begun, mut taken) = (Instant::now(), Vec::new());
        while taken.len() < count {
            assert!(begun.elapsed() < PATIENCE, "only {taken:?} came");
            for run in self.consumer.poll(Duration::from_millis(200)).await.unwrap() {
                let text = |value: bytes::Bytes| String::from_utf8(value.to_vec()).unwrap();
                taken.extend(run.records.into_iter().map(|record| text(record.value.unwrap())));
            }
        }
        taken
    }

    async fn error(&mut self) -> ClientError {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < PATIENCE, "no error came");
            match self.consumer.poll(Duration::from_millis(200)).await {
                Ok(fetched) => assert!(fetched.is_empty(), "{fetched:?}"),
                Err(error) => return error,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_with_the_same_log_is_asked_once_and_read_on() {
    let mut scene = Scene::read(AutoOffsetReset::Fail).await;
    assert_eq!(scene.leader().validated, [], "there was nothing to ask about");
    scene.elect(2, &[("a", 0), ("b", 1), ("c", 1), ("d", 2)]);
    assert_eq!(scene.take(1).await, ["d"]);
    let leader = scene.leader();
    assert_eq!(leader.validated, [(2, 1)]);
    assert!(leader.fetched.iter().all(|(_, current, last)| (1..=2).contains(current) && *last == -1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_cut_back_is_an_error_that_says_where() {
    let mut scene = Scene::read(AutoOffsetReset::Fail).await;
    scene.elect(2, &[("a", 0), ("b", 1), ("other", 2), ("and more", 2)]);
    let error = scene.error().await;
    let ClientError::Truncated { offset, divergent, .. } = &error else { panic!("{error}") };
    assert_eq!((*offset, *divergent), (3, Some(2)));
    assert!(error.to_string().contains("t/0") && error.to_string().contains("offset 2"), "{error}");
    assert!(scene.leader().fetched.iter().all(|(_, current, _)| *current < 2), "it read on");
    assert!(scene.consumer.poll(Duration::from_millis(10)).await.is_err(), "until it is moved");
    scene.consumer.seek(&at(), 2);
    assert_eq!(scene.take(2).await, ["other", "and more"]);
}

/// A replica that copied a compacted log may know nothing of the epoch that was read.
#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_compaction_took_is_no_truncation() {
    let mut scene = Scene::read(AutoOffsetReset::Fail).await;
    scene.elect(2, &[("a", 0), ("b", 0), ("c", 0), ("d", 2)]);
    assert_eq!(scene.take(1).await, ["d"]);
    assert_eq!(scene.leader().validated, [(2, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_with_a_policy_goes_on_where_the_logs_part() {
    for policy in [AutoOffsetReset::Earliest, AutoOffsetReset::Latest] {
        let mut scene = Scene::read(policy).await;
        scene.elect(3, &[("a", 0), ("b", 1), ("other", 3), ("and more", 3)]);
        assert_eq!(scene.take(2).await, ["other", "and more"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_leader_cannot_say_it_is_the_policys_place() {
    // All of what it has is of an epoch after the one that was read.
    let other = [("x", 2), ("y", 2), ("z", 2), ("w", 2)];
    let mut scene = Scene::read(AutoOffsetReset::Earliest).await;
    scene.elect(2, &other);
    assert_eq!(scene.take(4).await, ["x", "y", "z", "w"]);
    let mut scene = Scene::read(AutoOffsetReset::Fail).await;
    scene.elect(2, &other);
    let error = scene.error().await;
    assert!(matches!(error, ClientError::Truncated { offset: 3, divergent: None, .. }), "{error}");
}

/// The caller has seen less than was fetched: what it has not seen is fetched again, and nothing is said.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_only_buffered_is_dropped_without_a_word() {
    let mut scene = Scene::new(AutoOffsetReset::Fail).await;
    let log = std::mem::take(&mut scene.leader().log);
    scene.consumer.assign(vec![(at(), 0)]);
    assert!(scene.consumer.poll(Duration::ZERO).await.unwrap().is_empty());
    scene.elect(1, &log);
    let begun = Instant::now();
    // a, b and c are buffered when the log is fetched from its end; the caller has seen nothing.
    while !scene.leader().fetched.iter().any(|(from, _, _)| *from == 3) {
        assert!(begun.elapsed() < PATIENCE, "{:?}", scene.leader().fetched);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    scene.elect(2, &[("a", 0), ("other", 2)]);
    while !scene.leader().validated.contains(&(2, 1)) {
        assert!(begun.elapsed() < PATIENCE, "it was not asked");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(scene.take(2).await, ["a", "other"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_position_is_checked_before_anything_is_read() {
    let mut scene = Scene::new(AutoOffsetReset::Fail).await;
    scene.elect(4, &[("a", 0), ("b", 1), ("other", 4), ("and more", 4)]);
    let committed = Position { offset: 3, leader_epoch: Some(1) };
    scene.consumer.add_positions(vec![(at(), committed)]);
    let error = scene.error().await;
    assert!(matches!(error, ClientError::Truncated { offset: 3, divergent: Some(2), .. }), "{error}");
    assert_eq!(scene.leader().fetched, []);
    let right = Position { offset: 2, leader_epoch: Some(1) };
    scene.consumer.seek_to(&at(), right);
    assert_eq!(scene.take(2).await, ["other", "and more"]);
}

/// Metadata may run ahead of the leader, or behind it.
#[tokio::test(flavor = "multi_thread")]
async fn epochs_that_metadata_and_leader_do_not_agree_on_are_asked_for_again() {
    for announced in [1, 3] {
        let mut scene = Scene::read(AutoOffsetReset::Fail).await;
        scene.leader().announced = Some(announced);
        scene.elect(2, &[("a", 0), ("b", 1), ("c", 1), ("d", 2)]);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(scene.consumer.poll(Duration::from_millis(100)).await.unwrap().is_empty());
        scene.elect(3, &[("a", 0), ("b", 1), ("c", 1), ("d", 2)]);
        scene.leader().announced = None;
        assert_eq!(scene.take(1).await, ["d"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_says_its_epoch_to_be_committed() {
    let mut scene = Scene::new(AutoOffsetReset::Fail).await;
    scene.consumer.assign(vec![(at(), 0)]);
    let fetched = loop {
        let fetched = scene.consumer.poll(Duration::from_secs(1)).await.unwrap();
        if !fetched.is_empty() {
            break fetched;
        }
    };
    let committed = headwater_client::Committed::from(fetched.last().unwrap());
    assert_eq!((committed.offset, committed.leader_epoch), (3, Some(1)));
}
