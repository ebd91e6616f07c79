//! A client that knows frames and messages and nothing else.
#![allow(dead_code)] // `strangers`, a binary of its own, uses little of it.

pub mod certificates;

use std::path::Path;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use headwater_broker::{Broker, Config};
use headwater_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use headwater_wire::messages::fetch_response::PartitionData;
use headwater_wire::messages::*;
use headwater_wire::{
    ApiKey, BatchBuilder, Compression, Producer, ProtocolError, request_header_version,
    response_header_version,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub trait Message: Sized {
    type Response;
    const KEY: ApiKey;
    fn encode(&self, into: &mut BytesMut, version: i16) -> Result<(), ProtocolError>;
    fn decode(from: &mut Bytes, version: i16) -> Result<Self::Response, ProtocolError>;
}

macro_rules! messages {
    ($($key:ident $request:ident $response:ident;)*) => {$(
        impl Message for $request {
            type Response = $response;
            const KEY: ApiKey = ApiKey::$key;
            fn encode(&self, into: &mut BytesMut, version: i16) -> Result<(), ProtocolError> {
                self.write(into, version)
            }
            fn decode(from: &mut Bytes, version: i16) -> Result<Self::Response, ProtocolError> {
                $response::read(from, version)
            }
        }
    )*};
}

messages! {
    Produce ProduceRequestData ProduceResponseData;
    Fetch FetchRequestData FetchResponseData;
    ListOffsets ListOffsetsRequestData ListOffsetsResponseData;
    Metadata MetadataRequestData MetadataResponseData;
    OffsetCommit OffsetCommitRequestData OffsetCommitResponseData;
    OffsetFetch OffsetFetchRequestData OffsetFetchResponseData;
    FindCoordinator FindCoordinatorRequestData FindCoordinatorResponseData;
    JoinGroup JoinGroupRequestData JoinGroupResponseData;
    Heartbeat HeartbeatRequestData HeartbeatResponseData;
    LeaveGroup LeaveGroupRequestData LeaveGroupResponseData;
    SyncGroup SyncGroupRequestData SyncGroupResponseData;
    DescribeGroups DescribeGroupsRequestData DescribeGroupsResponseData;
    ConsumerGroupHeartbeat ConsumerGroupHeartbeatRequestData ConsumerGroupHeartbeatResponseData;
    ConsumerGroupDescribe ConsumerGroupDescribeRequestData ConsumerGroupDescribeResponseData;
    StreamsGroupHeartbeat StreamsGroupHeartbeatRequestData StreamsGroupHeartbeatResponseData;
    StreamsGroupDescribe StreamsGroupDescribeRequestData StreamsGroupDescribeResponseData;
    ListGroups ListGroupsRequestData ListGroupsResponseData;
    ApiVersions ApiVersionsRequestData ApiVersionsResponseData;
    CreateTopics CreateTopicsRequestData CreateTopicsResponseData;
    DeleteTopics DeleteTopicsRequestData DeleteTopicsResponseData;
    DeleteRecords DeleteRecordsRequestData DeleteRecordsResponseData;
    InitProducerId InitProducerIdRequestData InitProducerIdResponseData;
    OffsetForLeaderEpoch OffsetForLeaderEpochRequestData OffsetForLeaderEpochResponseData;
    AddPartitionsToTxn AddPartitionsToTxnRequestData AddPartitionsToTxnResponseData;
    AddOffsetsToTxn AddOffsetsToTxnRequestData AddOffsetsToTxnResponseData;
    EndTxn EndTxnRequestData EndTxnResponseData;
    TxnOffsetCommit TxnOffsetCommitRequestData TxnOffsetCommitResponseData;
    DescribeConfigs DescribeConfigsRequestData DescribeConfigsResponseData;
    AlterConfigs AlterConfigsRequestData AlterConfigsResponseData;
    DescribeLogDirs DescribeLogDirsRequestData DescribeLogDirsResponseData;
    CreatePartitions CreatePartitionsRequestData CreatePartitionsResponseData;
    DeleteGroups DeleteGroupsRequestData DeleteGroupsResponseData;
    IncrementalAlterConfigs IncrementalAlterConfigsRequestData IncrementalAlterConfigsResponseData;
    OffsetDelete OffsetDeleteRequestData OffsetDeleteResponseData;
    DescribeCluster DescribeClusterRequestData DescribeClusterResponseData;
    DescribeTransactions DescribeTransactionsRequestData DescribeTransactionsResponseData;
    ListTransactions ListTransactionsRequestData ListTransactionsResponseData;
    SaslHandshake SaslHandshakeRequestData SaslHandshakeResponseData;
    SaslAuthenticate SaslAuthenticateRequestData SaslAuthenticateResponseData;
    DescribeUserScramCredentials DescribeUserScramCredentialsRequestData DescribeUserScramCredentialsResponseData;
    AlterUserScramCredentials AlterUserScramCredentialsRequestData AlterUserScramCredentialsResponseData;
    DescribeTopicPartitions DescribeTopicPartitionsRequestData DescribeTopicPartitionsResponseData;
    DescribeAcls DescribeAclsRequestData DescribeAclsResponseData;
    CreateAcls CreateAclsRequestData CreateAclsResponseData;
    DeleteAcls DeleteAclsRequestData DeleteAclsResponseData;
    WriteTxnMarkers WriteTxnMarkersRequestData WriteTxnMarkersResponseData;
    AlterReplicaLogDirs AlterReplicaLogDirsRequestData AlterReplicaLogDirsResponseData;
    CreateDelegationToken CreateDelegationTokenRequestData CreateDelegationTokenResponseData;
    RenewDelegationToken RenewDelegationTokenRequestData RenewDelegationTokenResponseData;
    ExpireDelegationToken ExpireDelegationTokenRequestData ExpireDelegationTokenResponseData;
    DescribeDelegationToken DescribeDelegationTokenRequestData DescribeDelegationTokenResponseData;
    ElectLeaders ElectLeadersRequestData ElectLeadersResponseData;
    AlterPartitionReassignments AlterPartitionReassignmentsRequestData AlterPartitionReassignmentsResponseData;
    ListPartitionReassignments ListPartitionReassignmentsRequestData ListPartitionReassignmentsResponseData;
    DescribeQuorum DescribeQuorumRequestData DescribeQuorumResponseData;
    UpdateFeatures UpdateFeaturesRequestData UpdateFeaturesResponseData;
    UnregisterBroker UnregisterBrokerRequestData UnregisterBrokerResponseData;
    DescribeProducers DescribeProducersRequestData DescribeProducersResponseData;
    GetTelemetrySubscriptions GetTelemetrySubscriptionsRequestData GetTelemetrySubscriptionsResponseData;
    PushTelemetry PushTelemetryRequestData PushTelemetryResponseData;
    ListConfigResources ListConfigResourcesRequestData ListConfigResourcesResponseData;
    DescribeClientQuotas DescribeClientQuotasRequestData DescribeClientQuotasResponseData;
    AlterClientQuotas AlterClientQuotasRequestData AlterClientQuotasResponseData;
    ShareGroupHeartbeat ShareGroupHeartbeatRequestData ShareGroupHeartbeatResponseData;
    ShareGroupDescribe ShareGroupDescribeRequestData ShareGroupDescribeResponseData;
    ShareFetch ShareFetchRequestData ShareFetchResponseData;
    ShareAcknowledge ShareAcknowledgeRequestData ShareAcknowledgeResponseData;
    DescribeShareGroupOffsets DescribeShareGroupOffsetsRequestData DescribeShareGroupOffsetsResponseData;
    AlterShareGroupOffsets AlterShareGroupOffsetsRequestData AlterShareGroupOffsetsResponseData;
    DeleteShareGroupOffsets DeleteShareGroupOffsetsRequestData DeleteShareGroupOffsetsResponseData;
}

pub fn config(directory: &Path) -> Config {
    Config {
        data_dir: directory.to_owned(),
        listen: "127.0.0.1:0".parse().expect("an address"),
        ..Config::default()
    }
}

pub async fn start(directory: &Path) -> Broker {
    Broker::start(config(directory)).await.expect("the broker starts")
}

/// Flips a bit of the first place in the log that holds `text`.
pub fn damage(directory: &Path, text: &str) {
    for entry in std::fs::read_dir(directory.join("log")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(text.len()).position(|window| window == text.as_bytes()) {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            return;
        }
    }
    panic!("{text} is nowhere in {}", directory.display());
}

pub struct Raw {
    pub stream: TcpStream,
    correlation_id: i32,
}

impl Raw {
    pub async fn connect(broker: &Broker) -> Self {
        Self::to(&broker.bootstrap()).await
    }

    pub async fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("the broker listens");
        stream.set_nodelay(true).expect("an option");
        Self { stream, correlation_id: 0 }
    }

    pub async fn send<M: Message>(&mut self, request: &M, version: i16) {
        self.correlation_id += 1;
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        frame.put_i16(M::KEY as i16);
        frame.put_i16(version);
        frame.put_i32(self.correlation_id);
        frame.put_i16(4);
        frame.put_slice(b"test");
        if request_header_version(M::KEY as i16, version) == 2 {
            frame.put_u8(0);
        }
        request.encode(&mut frame, version).expect("the request is encoded");
        let length = (frame.len() - 4) as i32;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame).await.expect("the request is sent");
    }

    pub async fn frame(&mut self) -> std::io::Result<Bytes> {
        let length = self.stream.read_i32().await?;
        let mut frame = vec![0; usize::try_from(length).expect("a length")];
        self.stream.read_exact(&mut frame).await?;
        Ok(Bytes::from(frame))
    }

    /// The answer to the request that was sent `behind` requests before the last.
    pub async fn receive<M: Message>(&mut self, version: i16, behind: i32) -> M::Response {
        let mut frame = self.frame().await.expect("an answer");
        assert_eq!(frame.get_i32(), self.correlation_id - behind, "answers come in the order of requests");
        if response_header_version(M::KEY as i16, version) == 1 {
            frame.advance(1);
        }
        let response = M::decode(&mut frame, version).expect("the answer is decoded");
        assert!(frame.is_empty(), "{:?} v{version}: {} bytes too many", M::KEY, frame.len());
        response
    }

    pub async fn call<M: Message>(&mut self, request: &M, version: i16) -> M::Response {
        self.send(request, version).await;
        self.receive::<M>(version, 0).await
    }

    /// Whether the other side ends the connection without another byte.
    pub async fn is_closed(&mut self) -> bool {
        !matches!(self.stream.read(&mut [0]).await, Ok(1))
    }

    pub async fn create_topic(&mut self, name: &str, partitions: i32) {
        let topic = CreatableTopic::default()
            .with_name(name.to_owned().into())
            .with_num_partitions(partitions)
            .with_replication_factor(1);
        let request = CreateTopicsRequestData::default().with_topics(vec![topic]).with_timeout_ms(1000);
        let created = self.call(&request, 5).await;
        assert_eq!(created.topics[0].error_code, 0, "{created:?}");
    }

    /// A topic of one partition with settings of its own.
    pub async fn create(&mut self, name: &str, configs: &[(&str, &str)]) {
        let created = self.try_create(name, configs).await;
        assert_eq!(created.error_code, 0, "{created:?}");
    }

    /// As `create`, where the answer is what is asked about.
    pub async fn try_create(&mut self, name: &str, configs: &[(&str, &str)]) -> CreatableTopicResult {
        let configs = configs.iter().map(|(name, value)| {
            CreatableTopicConfig::default()
                .with_name((*name).to_owned().into())
                .with_value(Some((*value).to_owned().into()))
        });
        let topic = CreatableTopic::default()
            .with_name(name.to_owned().into())
            .with_num_partitions(1)
            .with_replication_factor(1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequestData::default().with_topics(vec![topic]).with_timeout_ms(1000);
        self.call(&request, 5).await.topics.remove(0)
    }

    pub async fn produce(&mut self, topic: &str, partition: i32, batch: Bytes) -> PartitionProduceResponse {
        self.produce_as(None, topic, partition, batch).await
    }

    pub async fn produce_as(
        &mut self,
        transactional_id: Option<&str>,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) -> PartitionProduceResponse {
        let request = produce(transactional_id, topic, partition, batch);
        let mut response = self.call(&request, 9).await;
        response.responses.remove(0).partition_responses.remove(0)
    }

    /// The identity of a transactional id, which has to be given; what was open under the id is aborted.
    pub async fn init_producer(&mut self, transactional_id: &str, timeout_ms: i32) -> Producer {
        let init = InitProducerIdRequestData::default()
            .with_transactional_id(Some(transactional_id.to_owned().into()))
            .with_transaction_timeout_ms(timeout_ms);
        let given = self.call(&init, 3).await;
        assert_eq!(given.error_code, 0, "{given:?}");
        Producer { id: given.producer_id, epoch: given.producer_epoch, base_sequence: 0 }
    }

    /// Adds partitions of one topic by KIP-98's first protocol; returns the error code of the first one.
    pub async fn add_to_transaction(
        &mut self,
        transactional_id: &str,
        producer: Producer,
        topic: &str,
        partitions: &[i32],
    ) -> i16 {
        let topic = add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
            .with_name(topic.to_owned().into())
            .with_partitions(partitions.to_vec());
        let add = AddPartitionsToTxnRequestData::default()
            .with_v3_and_below_transactional_id(transactional_id.to_owned().into())
            .with_v3_and_below_producer_id(producer.id)
            .with_v3_and_below_producer_epoch(producer.epoch)
            .with_v3_and_below_topics(vec![topic]);
        let added = self.call(&add, 3).await;
        added.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
    }

    /// Returns the error code.
    pub async fn end_transaction(&mut self, transactional_id: &str, producer: Producer, commit: bool) -> i16 {
        let end = EndTxnRequestData::default()
            .with_transactional_id(transactional_id.to_owned().into())
            .with_producer_id(producer.id)
            .with_producer_epoch(producer.epoch)
            .with_committed(commit);
        self.call(&end, 3).await.error_code
    }

    /// Begins a transaction on partition 0 of a topic.
    pub async fn begin(&mut self, transactional_id: &str, topic: &str) -> Producer {
        let producer = self.init_producer(transactional_id, 60_000).await;
        assert_eq!(self.add_to_transaction(transactional_id, producer, topic, &[0]).await, 0);
        producer
    }

    /// Records of a partition from an offset on, as (offset, value); waits for `min_bytes` for up to `max_wait_ms`.
    pub async fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        committed: bool,
    ) -> PartitionData {
        let request = fetch(topic, partition, offset).with_isolation_level(i8::from(committed));
        let mut response = self.call(&request, 11).await;
        assert_eq!(response.error_code, 0);
        response.responses.remove(0).partitions.remove(0)
    }

    pub async fn values(&mut self, topic: &str, partition: i32, committed: bool) -> Vec<String> {
        let data = self.fetch(topic, partition, 0, committed).await;
        assert_eq!(data.error_code, 0, "{data:?}");
        let aborted = data.aborted_transactions.unwrap_or_default();
        let mut ended = Vec::new();
        let mut values = Vec::new();
        for (header, records) in batches(data.records.unwrap_or_default()) {
            if header.is_control() {
                ended.push(header.producer_id);
                continue;
            }
            let dropped = header.is_transactional()
                && aborted.iter().any(|a| {
                    a.producer_id == header.producer_id
                        && a.first_offset <= header.base_offset
                        && !ended.contains(&header.producer_id)
                });
            if !dropped {
                let value = |record: headwater_model::Record| {
                    String::from_utf8(record.value.expect("a value").to_vec()).expect("UTF-8")
                };
                values.extend(records.into_iter().map(value));
            }
        }
        values
    }
}

/// From v3 on a client says what it is.
pub fn api_versions() -> ApiVersionsRequestData {
    ApiVersionsRequestData::default()
        .with_client_software_name("test".to_owned().into())
        .with_client_software_version("1".to_owned().into())
}

pub fn batches(mut bytes: Bytes) -> Vec<(headwater_wire::BatchHeader, Vec<headwater_model::Record>)> {
    let mut batches = Vec::new();
    while !bytes.is_empty() {
        let header = headwater_wire::BatchHeader::read(&bytes).expect("whole batches");
        let batch = bytes.split_to(header.size);
        header.verify(&batch).expect("the checksum is right");
        batches.push((header, headwater_wire::batch::decode(&header, &batch).expect("records")));
    }
    batches
}

pub fn produce(
    transactional_id: Option<&str>,
    topic: &str,
    partition: i32,
    batch: Bytes,
) -> ProduceRequestData {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
    let topic =
        TopicProduceData::default().with_name(topic.to_owned().into()).with_partition_data(vec![data]);
    ProduceRequestData::default()
        .with_transactional_id(transactional_id.map(|id| id.to_owned().into()))
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![topic])
}

pub fn fetch(topic: &str, partition: i32, offset: i64) -> FetchRequestData {
    let partition = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(16 << 20);
    let topic = FetchTopic::default().with_topic(topic.to_owned().into()).with_partitions(vec![partition]);
    FetchRequestData::default()
        .with_max_bytes(32 << 20)
        .with_min_bytes(1)
        .with_max_wait_ms(0)
        .with_topics(vec![topic])
}

pub fn batch(values: &[&str]) -> Bytes {
    batch_of(values, None, false)
}

pub fn batch_of(values: &[&str], producer: Option<Producer>, transactional: bool) -> Bytes {
    let mut builder = BatchBuilder::new();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_millis()
        as i64;
    for value in values {
        builder.push(now, None, Some(value.as_bytes()), &[]);
    }
    builder.build(Compression::None, producer, transactional).expect("a batch")
}
