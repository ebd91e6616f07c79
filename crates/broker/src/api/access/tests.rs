//! Several principals at one broker: their calls are handed to the handlers as connections hand them.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use headwater_coordinator::{Client, NewTopic, QuotaAlteration, Request, Response};
use headwater_model::Principal;
use headwater_model::acl::{AclBinding, Operation, PatternType, Permission, ResourceType, WILDCARD};
use headwater_security::SecurityProtocol;
use headwater_wire::messages::*;
use headwater_wire::{ApiKey, BatchBuilder, Compression, KafkaString};

use super::super::{Call, find, rights};
use crate::Config;
use crate::advertised::Advertised;
use crate::audit::{LONGEST_CLIENT, LONGEST_NAME};
use crate::authorizer::AuthorizerConfig;
use crate::broker::{Running, Shared, open};
use crate::outgoing::gather;
use crate::quota::{Mute, QuotaConfig, WindowConfig};
use crate::security::{Authority, Credentials, Listener, ListenerConfig};

const TOPIC: i16 = 29;
const WITHOUT_HEAD: usize = 8;

struct Bench {
    shared: Arc<Shared>,
    running: Running,
    listener: Arc<Listener>,
    _directory: tempfile::TempDir,
}

impl Bench {
    /// With the topic `orders`.
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = Config {
            data_dir: directory.path().to_owned(),
            authorizer: AuthorizerConfig { enabled: true, ..AuthorizerConfig::default() },
            quota: QuotaConfig { clients: WindowConfig { number: 2, seconds: 1 }, ..QuotaConfig::default() },
            ..Config::default()
        };
        let here: SocketAddr = "127.0.0.1:9092".parse().unwrap();
        let advertised = Advertised::new(None, here).unwrap();
        let runtime = tokio::runtime::Handle::current();
        let authority = Arc::new(Authority::new(&config.security, Arc::new(Credentials::default())).unwrap());
        let plain = ListenerConfig {
            name: "PLAINTEXT".to_owned(),
            protocol: SecurityProtocol::Plaintext,
            host: here.ip().to_string(),
            port: here.port(),
            advertised: None,
        };
        let listener = Arc::new(Listener::new(&plain, advertised, &authority).unwrap());
        let (shared, running) = open(config, authority, runtime).unwrap();
        let bench = Self { shared: Arc::new(shared), running, listener, _directory: directory };
        let new =
            NewTopic { name: "orders".into(), partitions: 1, replication_factor: -1, configs: Vec::new() };
        bench.ask(Request::CreateTopics { topics: vec![new], validate_only: false }).await;
        bench
    }

    async fn ask(&self, request: Request) -> Response {
        self.shared.engine.ask(Client::default(), request).await.unwrap()
    }

    async fn allow(&self, user: &str, operation: Operation) {
        let rule = AclBinding {
            resource: ResourceType::Topic,
            name: "orders".into(),
            pattern: PatternType::Literal,
            principal: format!("User:{user}"),
            host: WILDCARD.into(),
            operation,
            permission: Permission::Allow,
        };
        self.ask(Request::CreateAcls(vec![rule])).await;
    }

    fn call(&self, user: &str, key: ApiKey, version: i16) -> Call {
        Call {
            shared: Arc::clone(&self.shared),
            key: key as i16,
            version,
            correlation_id: 1,
            client_id: Some(KafkaString::from_static("same")),
            listener: Arc::clone(&self.listener),
            principal: Arc::new(Principal::user(user)),
            peer: "127.0.0.1:40000".parse().unwrap(),
            local: "127.0.0.1:9092".parse().unwrap(),
            mute: Arc::new(Mute::default()),
            memo: Arc::default(),
        }
    }

    async fn produce(&self, user: &str, bytes: usize) -> ProduceResponseData {
        let mut builder = BatchBuilder::new();
        builder.push(crate::clock::wall(), None, Some(&vec![b'x'; bytes]), &[]);
        let records = builder.build(Compression::None, None, false).unwrap();
        let partition = PartitionProduceData::default().with_records(Some(records));
        let topic = TopicProduceData::default()
            .with_name(KafkaString::from_static("orders"))
            .with_partition_data(vec![partition]);
        let request = ProduceRequestData::default().with_acks(-1).with_topic_data(vec![topic]);
        let mut body = BytesMut::new();
        request.write(&mut body, 8).unwrap();
        let api = find(ApiKey::Produce as i16, 8, 1).unwrap();
        let answer = (api.serve)(self.call(user, ApiKey::Produce, 8), body.freeze()).await.unwrap().unwrap();
        let mut answer = Bytes::from(gather(&answer)).slice(WITHOUT_HEAD..);
        ProduceResponseData::read(&mut answer, 8).unwrap()
    }

    async fn stop(self) {
        self.shared.engine.stop();
        tokio::task::spawn_blocking(move || self.running.thread.join().unwrap()).await.unwrap();
    }
}

fn code(answer: &ProduceResponseData) -> i16 {
    answer.responses[0].partition_responses[0].error_code
}

#[tokio::test]
async fn each_principal_has_its_own_rights() {
    let bench = Bench::new().await;
    bench.allow("alice", Operation::Write).await;
    bench.allow("bob", Operation::Read).await;
    assert_eq!(code(&bench.produce("alice", 1).await), 0);
    assert_eq!(code(&bench.produce("bob", 1).await), TOPIC, "reading is not writing");
    assert_eq!(code(&bench.produce("eve", 1).await), TOPIC);
    bench.allow("eve", Operation::All).await;
    assert_eq!(code(&bench.produce("eve", 1).await), 0);
    bench.stop().await;
}

#[tokio::test]
async fn of_what_a_client_says_a_refusal_tells_so_much_and_no_more() {
    let mut bench = Bench::new().await;
    let mut call = bench.call("eve", ApiKey::Metadata, 9);
    call.client_id = Some(KafkaString::from("c".repeat(30_000)));
    assert!(!call.may(rights::DESCRIBE_TOPIC, &"t".repeat(30_000)));
    let told = bench.running.entries.try_recv().unwrap().subject;
    assert_eq!((told.client_id.len(), told.name.len()), (LONGEST_CLIENT, LONGEST_NAME));
    bench.stop().await;
}

#[tokio::test]
async fn each_principal_has_its_own_share_of_a_default_quota() {
    let bench = Bench::new().await;
    bench.allow("*", Operation::Write).await;
    let alteration = QuotaAlteration {
        entity: vec![("user".into(), None)],
        changes: vec![("producer_byte_rate".into(), Some(10_000.0))],
    };
    bench.ask(Request::AlterQuotas { alterations: vec![alteration], validate_only: false }).await;
    assert!(bench.produce("alice", 20_000).await.throttle_time_ms > 500);
    assert_eq!(bench.produce("bob", 5_000).await.throttle_time_ms, 0, "bob has used nothing yet");
    assert!(bench.produce("alice", 5_000).await.throttle_time_ms > 500, "on another connection, too");
    bench.stop().await;
}

#[tokio::test]
async fn who_may_see_no_group_and_no_transaction_does_not_keep_the_engine_busy() {
    let bench = Bench::new().await;
    let groups = bench.call("eve", ApiKey::ListGroups, 5);
    let transactions = bench.call("eve", ApiKey::ListTransactions, 1);
    bench.stop().await;
    let listed = super::super::groups::list(&groups, ListGroupsRequestData::default()).await.unwrap();
    assert!(listed.groups.is_empty());
    let request = ListTransactionsRequestData::default();
    let listed = super::super::transactions::list(&transactions, request).await.unwrap();
    assert!(listed.transaction_states.is_empty());
}

#[tokio::test]
async fn an_expression_that_cannot_be_is_refused_without_the_engine() {
    let bench = Bench::new().await;
    let rule = AclBinding {
        resource: ResourceType::Group,
        name: "g".into(),
        pattern: PatternType::Literal,
        principal: "User:eve".into(),
        host: WILDCARD.into(),
        operation: Operation::Read,
        permission: Permission::Allow,
    };
    bench.ask(Request::CreateAcls(vec![rule])).await;
    let call = bench.call("eve", ApiKey::ConsumerGroupHeartbeat, 1);
    bench.stop().await;
    let beat = ConsumerGroupHeartbeatRequestData::default()
        .with_group_id(KafkaString::from_static("g"))
        .with_member_id(KafkaString::from_static("m"))
        .with_rebalance_timeout_ms(1_000)
        .with_subscribed_topic_regex(Some(r"\pL{1000}".to_owned().into()))
        .with_topic_partitions(Some(Vec::new()));
    let answer = super::super::consumer_groups::heartbeat(&call, beat).await.unwrap();
    assert_eq!(answer.error_code, 128, "{answer:?}");
}
