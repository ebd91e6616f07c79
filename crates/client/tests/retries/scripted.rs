//! A broker whose answers a test writes: frames and versions here, everything else in the test's own closure.

use bytes::{BufMut, Bytes, BytesMut};
use headwater_wire::messages::api_versions_response::ApiVersion;
use headwater_wire::messages::{
    ApiVersionsResponseData, FindCoordinatorResponseData, MetadataResponseBroker, MetadataResponseData,
    MetadataResponsePartition, MetadataResponseTopic,
};
use headwater_wire::{ApiKey, KafkaString, KafkaUuid, request_header_version, response_header_version};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const TOPIC: &str = "t";
pub const TOPIC_ID: KafkaUuid = KafkaUuid::from_parts(7, 7);
const NODE: i32 = 1;

/// One request, and where its answer goes.
pub struct Asked<'a> {
    pub key: ApiKey,
    pub version: i16,
    pub body: Bytes,
    pub answer: &'a mut BytesMut,
}

/// What the test answers; `None` closes the connection instead.
pub type Script = Box<dyn FnMut(Asked<'_>) -> Option<()> + Send>;

/// Starts it; it speaks these versions and no others, beside those of metadata and coordinators, which it answers by
/// itself: it has one topic of `leader_epochs().len()` partitions, leads all whose epoch is not negative and coordinates every
/// group.
pub async fn start(
    versions: &[(ApiKey, i16)],
    leader_epochs: impl Fn() -> Vec<i32> + Send + Sync + 'static,
    script: impl FnMut(Asked<'_>) -> Option<()> + Send + 'static,
) -> String {
    start_muted(versions, leader_epochs, script, Arc::default()).await
}

/// As [`start`]; while `muted`, it takes connections and requests and says nothing, as if the network were cut.
pub async fn start_muted(
    versions: &[(ApiKey, i16)],
    leader_epochs: impl Fn() -> Vec<i32> + Send + Sync + 'static,
    script: impl FnMut(Asked<'_>) -> Option<()> + Send + 'static,
    muted: Arc<AtomicBool>,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut spoken = vec![(ApiKey::ApiVersions, 0), (ApiKey::Metadata, 12), (ApiKey::FindCoordinator, 2)];
    spoken.extend_from_slice(versions);
    let broker = Arc::new(Broker {
        port: address.port(),
        versions: spoken,
        leader_epochs: Box::new(leader_epochs),
        script: Mutex::new(Box::new(script)),
        muted,
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(Arc::clone(&broker).serve(stream));
        }
    });
    address.to_string()
}

struct Broker {
    port: u16,
    versions: Vec<(ApiKey, i16)>,
    leader_epochs: Box<dyn Fn() -> Vec<i32> + Send + Sync>,
    script: Mutex<Script>,
    muted: Arc<AtomicBool>,
}

impl Broker {
    /// Answers one connection's requests in order.
    async fn serve(self: Arc<Self>, mut stream: TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        loop {
            let length = stream.read_i32().await.ok()?;
            let mut frame = vec![0; usize::try_from(length).ok()?];
            stream.read_exact(&mut frame).await.ok()?;
            if self.muted.load(Ordering::Relaxed) {
                continue;
            }
            let answer = self.answer(frame)?;
            stream.write_i32(answer.len() as i32).await.ok()?;
            stream.write_all(&answer).await.ok()?;
        }
    }

    fn answer(&self, frame: Vec<u8>) -> Option<BytesMut> {
        let word = |at: usize| i16::from_be_bytes([frame[at], frame[at + 1]]);
        let (key, version, client_id) = (word(0), word(2), word(8) as usize);
        let mut answer = BytesMut::new();
        answer.put_slice(&frame[4..8]);
        if key == ApiKey::ApiVersions as i16 {
            // A version it does not know is answered in version 0.
            let code = if version == 0 { 0 } else { 35 };
            self.versions().with_error_code(code).write(&mut answer, 0).unwrap();
            return Some(answer);
        }
        if response_header_version(key, version) == 1 {
            answer.put_u8(0);
        }
        if key == ApiKey::Metadata as i16 {
            self.metadata().write(&mut answer, version).unwrap();
        } else if key == ApiKey::FindCoordinator as i16 {
            let found = FindCoordinatorResponseData::default()
                .with_node_id(NODE)
                .with_host(KafkaString::from_static("127.0.0.1"))
                .with_port(i32::from(self.port));
            found.write(&mut answer, version).unwrap();
        } else {
            let tags = usize::from(request_header_version(key, version) == 2);
            let spoken = self.versions.iter().find(|(spoken, _)| *spoken as i16 == key);
            let key = spoken.expect("a request of an API it has not offered").0;
            let body = Bytes::from(frame).slice(10 + client_id + tags..);
            (self.script.lock().unwrap())(Asked { key, version, body, answer: &mut answer })?;
        }
        Some(answer)
    }

    fn versions(&self) -> ApiVersionsResponseData {
        let api = |(key, version): &(ApiKey, i16)| ApiVersion {
            api_key: *key as i16,
            min_version: *version,
            max_version: *version,
            ..ApiVersion::default()
        };
        ApiVersionsResponseData::default().with_api_keys(self.versions.iter().map(api).collect())
    }

    fn metadata(&self) -> MetadataResponseData {
        let broker = MetadataResponseBroker::default()
            .with_node_id(NODE)
            .with_host(KafkaString::from_static("127.0.0.1"))
            .with_port(i32::from(self.port));
        let partition = |(index, epoch): (usize, i32)| {
            MetadataResponsePartition::default()
                .with_partition_index(index as i32)
                .with_leader_id(if epoch < 0 { -1 } else { NODE })
                .with_leader_epoch(epoch)
                .with_replica_nodes(vec![NODE])
                .with_isr_nodes(vec![NODE])
        };
        let topic = MetadataResponseTopic::default()
            .with_name(Some(KafkaString::from_static(TOPIC)))
            .with_topic_id(TOPIC_ID)
            .with_partitions((self.leader_epochs)().into_iter().enumerate().map(partition).collect());
        MetadataResponseData::default().with_brokers(vec![broker]).with_topics(vec![topic])
    }
}
