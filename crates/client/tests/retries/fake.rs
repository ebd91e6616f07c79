//! A broker of one topic with one partition that keeps an idempotent producer's sequence as Kafka does,
//! takes batches up to a size, coordinates transactions (in `coordinator.rs`), and fails as it is told, one act a
//! produce request or end of a transaction.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::{BufMut, Bytes, BytesMut};
use headwater_client::ErrorCode;
use headwater_wire::messages::api_versions_response::ApiVersion;
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

use crate::coordinator::{End, Transaction};

pub const TOPIC: &str = "t";
/// The versions it speaks.
const VERSIONS: [(ApiKey, i16); 7] = [
    (ApiKey::ApiVersions, 0),
    (ApiKey::Metadata, 4),
    (ApiKey::Produce, 7),
    (ApiKey::InitProducerId, 3),
    (ApiKey::FindCoordinator, 1),
    (ApiKey::AddPartitionsToTxn, 0),
    (ApiKey::EndTxn, 0),
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

pub struct FakeBroker {
    address: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    acts: VecDeque<Act>,
    transaction: Transaction,
    /// The greatest batch that is taken, in bytes.
    largest: Option<usize>,
    written: Vec<String>,
    producers: i64,
    /// By producer and epoch: the sequence that comes next, and the base offsets of what it has written.
    sequences: HashMap<(i64, i16), (i32, HashMap<i32, i64>)>,
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
            // A version it does not know is answered in version 0.
            let code = if version == 0 { 0 } else { ErrorCode::UnsupportedVersion.code() };
            versions().with_error_code(code).write(&mut answer, 0).unwrap();
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
        if key == ApiKey::InitProducerId as i16 {
            let asked = InitProducerIdRequestData::read(body, version).unwrap();
            let identity = match asked.transactional_id {
                Some(_) => self.transaction.identity(),
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
            self.produce(&request)?.write(into, version).unwrap();
        } else {
            self.transaction.answer(key, version, port, body, into)?;
        }
        Some(())
    }

    /// `None` closes the connection.
    fn produce(&mut self, request: &ProduceRequestData) -> Option<ProduceResponseData> {
        let records = request.topic_data[0].partition_data[0].records.clone().unwrap();
        let act = self.acts.pop_front().unwrap_or(Act::Answer);
        let (code, offset) = match act {
            Act::Refuse(code) => (code, -1),
            Act::LoseRequest => return None,
            Act::RefuseWritten(code) => (code, self.append(&records).1),
            Act::Answer | Act::LoseAnswer => self.append(&records),
        };
        if matches!(act, Act::LoseAnswer) {
            return None;
        }
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
        // Kafka takes any sequence of a producer it does not know in the partition.
        let producer = (header.producer_id, header.producer_epoch);
        let (next, known) =
            self.sequences.entry(producer).or_insert_with(|| (header.base_sequence, HashMap::new()));
        if let Some(offset) = known.get(&header.base_sequence) {
            return (ErrorCode::None, *offset);
        }
        if header.base_sequence != *next {
            return (ErrorCode::OutOfOrderSequenceNumber, -1);
        }
        let offset = self.written.len() as i64;
        known.insert(header.base_sequence, offset);
        *next += header.record_count;
        let text =
            |record: headwater_model::Record| String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        self.written.extend(batch::decode(&header, records).unwrap().into_iter().map(text));
        (ErrorCode::None, offset)
    }
}

fn versions() -> ApiVersionsResponseData {
    let api = |(key, version): (ApiKey, i16)| ApiVersion {
        api_key: key as i16,
        min_version: version,
        max_version: version,
        ..ApiVersion::default()
    };
    ApiVersionsResponseData::default().with_api_keys(VERSIONS.into_iter().map(api).collect())
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
