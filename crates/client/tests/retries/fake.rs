//! A broker of one topic with one partition that keeps an idempotent producer's sequence as Kafka does,
//! takes batches up to a size, coordinates transactions (in `coordinator.rs`), and fails as it is told, one act a
//! produce request or end of a transaction. Unless it has finalized a transaction.version it is an old one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use headwater_client::ErrorCode;
use headwater_wire::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey};
use headwater_wire::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use headwater_wire::messages::{
    ApiVersionsResponseData, InitProducerIdRequestData, InitProducerIdResponseData, MetadataResponseBroker,
    MetadataResponseData, MetadataResponsePartition, MetadataResponseTopic, ProduceRequestData,
    ProduceResponseData,
};
use headwater_wire::{
    ApiKey, BatchHeader, KafkaString, batch, request_header_version, response_header_version,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::coordinator::{End, PRODUCE_V2, Producer, Transaction};

pub const TOPIC: &str = "t";
/// The version of each API that an old broker speaks, and the newest that others speak, too.
const VERSIONS: [(ApiKey, i16, i16); 9] = [
    (ApiKey::ApiVersions, 0, 3),
    (ApiKey::Metadata, 4, 4),
    (ApiKey::Produce, 7, PRODUCE_V2),
    (ApiKey::InitProducerId, 3, 5),
    (ApiKey::FindCoordinator, 1, 3),
    (ApiKey::AddPartitionsToTxn, 0, 3),
    (ApiKey::AddOffsetsToTxn, 0, 4),
    (ApiKey::TxnOffsetCommit, 0, 5),
    (ApiKey::EndTxn, 0, 5),
];

#[derive(Debug, Clone, Copy)]
pub enum Act {
    Answer,
    /// Answers with this code and writes nothing.
    Refuse(ErrorCode),
    /// Writes, and answers with this code.
    RefuseWritten(ErrorCode),
    /// Writes, and closes the connection instead of answering.
    LoseAnswer,
    /// Closes the connection and writes nothing.
    LoseRequest,
}

impl Act {
    /// What is answered, when `done` is what it does; `None` closes the connection.
    pub fn code(self, done: impl FnOnce() -> ErrorCode) -> Option<ErrorCode> {
        match self {
            Self::Answer => Some(done()),
            Self::Refuse(code) => Some(code),
            Self::RefuseWritten(code) => {
                done();
                Some(code)
            }
            Self::LoseAnswer => {
                done();
                None
            }
            Self::LoseRequest => None,
        }
    }
}

pub struct FakeBroker {
    address: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    acts: VecDeque<Act>,
    transaction: Transaction,
    /// What is finalized; 0 in an old broker.
    transaction_version: i16,
    features_epoch: i64,
    /// Each request but those for versions and metadata, with its version.
    asked: Vec<(i16, i16)>,
    /// Of each batch that was written: its producer and base sequence.
    stamps: Vec<(Producer, i32)>,
    /// The greatest batch that is taken, in bytes.
    largest: Option<usize>,
    written: Vec<String>,
    producers: i64,
    /// By producer and epoch: the sequence that comes next, and the base offsets of what it has written.
    sequences: HashMap<Producer, (i32, HashMap<i32, i64>)>,
}

impl FakeBroker {
    pub async fn start(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State { acts: acts.into(), ..State::default() }));
        let (port, shared) = (listener.local_addr().unwrap().port(), Arc::clone(&state));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, port, Arc::clone(&shared)));
            }
        });
        Self { address, state }
    }

    /// Batches of more than so many bytes are refused.
    pub async fn with_largest(bytes: usize) -> Self {
        let broker = Self::start(Vec::new()).await;
        broker.state.lock().unwrap().largest = Some(bytes);
        broker
    }

    /// One whose transactions are of the protocol that this level stands for.
    pub async fn with_transactions(version: i16) -> Self {
        let broker = Self::start(Vec::new()).await;
        broker.finalize(version);
        broker
    }

    /// From now on; whoever is connected does not hear of it.
    pub fn finalize(&self, transaction_version: i16) {
        let mut state = self.state.lock().unwrap();
        state.transaction_version = transaction_version;
        state.features_epoch += 1;
    }

    /// What happens to produce requests.
    pub fn produces(&self, acts: impl IntoIterator<Item = Act>) {
        self.state.lock().unwrap().acts = acts.into_iter().collect();
    }

    /// What happens to offsets of a transaction.
    pub fn offsets(&self, acts: impl IntoIterator<Item = Act>) {
        self.state.lock().unwrap().transaction.offset_acts = acts.into_iter().collect();
    }

    /// What happens to requests for a producer id.
    pub fn identities(&self, acts: impl IntoIterator<Item = Act>) {
        self.state.lock().unwrap().transaction.identity_acts = acts.into_iter().collect();
    }

    /// Waits until so many requests of an API have come.
    pub async fn was_asked(&self, api: ApiKey, times: usize) {
        while self.asked(api).len() < times {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The coordinator gives out this epoch with the next id that is asked for.
    pub fn next_epoch(&self, epoch: i16) {
        self.state.lock().unwrap().transaction.producer.1 = epoch - 1;
    }

    /// Ends that were lost on their way arrive.
    pub fn come_late(&self) -> Vec<ErrorCode> {
        self.state.lock().unwrap().transaction.come_late()
    }

    /// The offset that is final.
    pub fn offset(&self) -> i64 {
        self.state.lock().unwrap().transaction.offset
    }

    /// The versions in which this was asked.
    pub fn asked(&self, api: ApiKey) -> Vec<i16> {
        let state = self.state.lock().unwrap();
        state.asked.iter().filter(|(key, _)| *key == api as i16).map(|(_, version)| *version).collect()
    }

    pub fn stamps(&self) -> Vec<(Producer, i32)> {
        self.state.lock().unwrap().stamps.clone()
    }

    /// What happens to requests that end a transaction.
    pub fn ends(&self, acts: impl IntoIterator<Item = Act>) {
        self.state.lock().unwrap().transaction.acts = acts.into_iter().collect();
    }

    pub fn transaction(&self) -> Vec<End> {
        self.state.lock().unwrap().transaction.ended.clone()
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn written(&self) -> Vec<String> {
        self.state.lock().unwrap().written.clone()
    }

    pub fn producer_ids(&self) -> i64 {
        self.state.lock().unwrap().producers
    }

    pub fn acts_left(&self) -> usize {
        self.state.lock().unwrap().acts.len()
    }
}

/// Answers one connection's requests in order, until the client or an act ends it.
async fn serve(mut stream: TcpStream, port: u16, state: Arc<Mutex<State>>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    loop {
        let length = stream.read_i32().await.ok()?;
        let mut frame = vec![0; usize::try_from(length).ok()?];
        stream.read_exact(&mut frame).await.ok()?;
        let word = |at: usize| i16::from_be_bytes([frame[at], frame[at + 1]]);
        let (key, version, client_id) = (word(0), word(2), word(8) as usize);
        let mut answer = BytesMut::new();
        answer.put_slice(&frame[4..8]);
        if key == ApiKey::ApiVersions as i16 {
            let (level, epoch) = {
                let state = state.lock().unwrap();
                (state.transaction_version, state.features_epoch)
            };
            versions(&mut answer, version, level, epoch);
        } else if key == ApiKey::Metadata as i16 {
            metadata(port).write(&mut answer, version).unwrap();
        } else {
            let tags = usize::from(request_header_version(key, version) == 2);
            if response_header_version(key, version) == 1 {
                answer.put_u8(0);
            }
            let mut body = Bytes::from(frame).slice(10 + client_id + tags..);
            state.lock().unwrap().answer(key, version, port, &mut body, &mut answer)?;
        }
        stream.write_i32(answer.len() as i32).await.ok()?;
        stream.write_all(&answer).await.ok()?;
    }
}

impl State {
    /// `None` closes the connection.
    fn answer(
        &mut self,
        key: i16,
        version: i16,
        port: u16,
        body: &mut Bytes,
        into: &mut BytesMut,
    ) -> Option<()> {
        self.asked.push((key, version));
        if key == ApiKey::InitProducerId as i16 {
            let asked = InitProducerIdRequestData::read(body, version).unwrap();
            let identity = match asked.transactional_id {
                Some(_) => {
                    let act = self.transaction.identity_acts.pop_front().unwrap_or(Act::Answer);
                    let identity = self.transaction.identity(&asked);
                    act.code(|| ErrorCode::None)?;
                    identity
                }
                None => {
                    self.producers += 1;
                    InitProducerIdResponseData::default()
                        .with_producer_id(self.producers)
                        .with_producer_epoch(0)
                }
            };
            identity.write(into, version).unwrap();
        } else if key == ApiKey::Produce as i16 {
            let request = ProduceRequestData::read(body, version).unwrap();
            self.produce(&request, version)?.write(into, version).unwrap();
        } else {
            self.transaction.answer(key, version, port, body, into)?;
        }
        Some(())
    }

    /// `None` closes the connection.
    fn produce(&mut self, request: &ProduceRequestData, version: i16) -> Option<ProduceResponseData> {
        let records = request.topic_data[0].partition_data[0].records.clone().unwrap();
        let act = self.acts.pop_front().unwrap_or(Act::Answer);
        let mut offset = -1;
        let code = act.code(|| {
            if request.transactional_id.is_some() {
                let header = BatchHeader::read(&records).unwrap();
                let producer = (header.producer_id, header.producer_epoch);
                match self.transaction.write(producer, version >= PRODUCE_V2) {
                    ErrorCode::None => {}
                    refusal => return refusal,
                }
            }
            let (code, at) = self.append(&records);
            offset = at;
            code
        })?;
        let partition =
            PartitionProduceResponse::default().with_error_code(code.code()).with_base_offset(offset);
        let topic = TopicProduceResponse::default()
            .with_name(KafkaString::from_static(TOPIC))
            .with_partition_responses(vec![partition]);
        Some(ProduceResponseData::default().with_responses(vec![topic]))
    }

    fn append(&mut self, records: &Bytes) -> (ErrorCode, i64) {
        let header = BatchHeader::read(records).unwrap();
        header.verify(records).unwrap();
        if self.largest.is_some_and(|largest| records.len() > largest) {
            return (ErrorCode::MessageTooLarge, -1);
        }
        // Kafka takes any sequence of a producer it does not know in the partition, and the first one of another epoch.
        let producer = (header.producer_id, header.producer_epoch);
        let is_known = self.sequences.keys().any(|(id, _)| *id == header.producer_id);
        let first = if is_known { 0 } else { header.base_sequence };
        let (next, known) = self.sequences.entry(producer).or_insert_with(|| (first, HashMap::new()));
        if let Some(offset) = known.get(&header.base_sequence) {
            return (ErrorCode::None, *offset);
        }
        if header.base_sequence != *next {
            return (ErrorCode::OutOfOrderSequenceNumber, -1);
        }
        let offset = self.written.len() as i64;
        known.insert(header.base_sequence, offset);
        self.stamps.push((producer, header.base_sequence));
        *next += header.record_count;
        let text =
            |record: headwater_model::Record| String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        self.written.extend(batch::decode(&header, records).unwrap().into_iter().map(text));
        (ErrorCode::None, offset)
    }
}

/// A version that an old broker does not know is answered in version 0.
fn versions(into: &mut BytesMut, version: i16, level: i16, epoch: i64) {
    let old = level == 0;
    let api = |(key, oldest, newest): (ApiKey, i16, i16)| ApiVersion {
        api_key: key as i16,
        min_version: oldest,
        max_version: if old { oldest } else { newest },
        ..ApiVersion::default()
    };
    let code = if old && version > 0 { ErrorCode::UnsupportedVersion } else { ErrorCode::None };
    let feature = FinalizedFeatureKey::default()
        .with_name(KafkaString::from_static("transaction.version"))
        .with_min_version_level(level)
        .with_max_version_level(level);
    ApiVersionsResponseData::default()
        .with_error_code(code.code())
        .with_api_keys(VERSIONS.into_iter().map(api).collect())
        .with_finalized_features_epoch(epoch)
        .with_finalized_features(vec![feature])
        .write(into, if old { 0 } else { version })
        .unwrap();
}

fn metadata(port: u16) -> MetadataResponseData {
    let broker = MetadataResponseBroker::default()
        .with_node_id(1)
        .with_host(KafkaString::from_static("127.0.0.1"))
        .with_port(i32::from(port));
    let partition = MetadataResponsePartition::default()
        .with_leader_id(1)
        .with_replica_nodes(vec![1])
        .with_isr_nodes(vec![1]);
    let topic = MetadataResponseTopic::default()
        .with_name(Some(KafkaString::from_static(TOPIC)))
        .with_partitions(vec![partition]);
    MetadataResponseData::default().with_brokers(vec![broker]).with_topics(vec![topic])
}
