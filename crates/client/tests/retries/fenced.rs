//! A static member whose id the coordinator has forgotten before its first generation was complete, and one that was replaced.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use headwater_client::{
    Client, ClientConfig, ClientError, ErrorCode, GroupConfig, GroupConsumer, GroupEvent,
};
use headwater_wire::ApiKey;
use headwater_wire::messages::{
    HeartbeatRequestData, HeartbeatResponseData, JoinGroupRequestData, JoinGroupResponseData,
    SyncGroupRequestData, SyncGroupResponseData,
};

use crate::scripted::{self, Asked, TOPIC};

const VERSIONS: [(ApiKey, i16); 3] = [(ApiKey::JoinGroup, 7), (ApiKey::SyncGroup, 5), (ApiKey::Heartbeat, 4)];
/// Version 0, no topics, no user data.
const NOTHING: &[u8] = &[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];

#[derive(Default)]
struct Coordinator {
    /// The member ids that asked to join.
    joins: Vec<String>,
    syncs: usize,
    /// It dies at the first sync, and its successor does not know the id that it gave.
    dies: bool,
}

impl Coordinator {
    fn answer(&mut self, mut asked: Asked<'_>) -> Option<()> {
        match asked.key {
            ApiKey::JoinGroup => {
                let join = JoinGroupRequestData::read(&mut asked.body, asked.version).unwrap();
                assert_eq!(join.group_instance_id.map(|id| id.to_string()).as_deref(), Some("one"));
                self.joins.push(join.member_id.to_string());
                if self.dies && self.joins.last().is_some_and(|id| !id.is_empty()) {
                    let refused =
                        JoinGroupResponseData::default().with_error_code(ErrorCode::FencedInstanceId.code());
                    refused.write(asked.answer, asked.version).unwrap();
                    return Some(());
                }
                let answer = JoinGroupResponseData::default()
                    .with_generation_id(1)
                    .with_protocol_type(Some("consumer".to_owned().into()))
                    .with_protocol_name(Some("range".to_owned().into()))
                    .with_leader("another".to_owned().into())
                    .with_member_id(format!("one-{}", self.joins.len()).into());
                answer.write(asked.answer, asked.version).unwrap();
            }
            ApiKey::SyncGroup => {
                let sync = SyncGroupRequestData::read(&mut asked.body, asked.version).unwrap();
                assert_eq!(sync.member_id.to_string(), format!("one-{}", self.joins.len()));
                self.syncs += 1;
                let code = match self.dies {
                    true if self.syncs == 1 => return None,
                    true => 0,
                    false => ErrorCode::FencedInstanceId.code(),
                };
                let answer = SyncGroupResponseData::default()
                    .with_error_code(code)
                    .with_assignment(bytes::Bytes::from_static(NOTHING));
                answer.write(asked.answer, asked.version).unwrap();
            }
            ApiKey::Heartbeat => {
                HeartbeatRequestData::read(&mut asked.body, asked.version).unwrap();
                HeartbeatResponseData::default().write(asked.answer, asked.version).unwrap();
            }
            other => panic!("{other:?}"),
        }
        Some(())
    }
}

/// What the member hears first, and the ids that it joined with.
async fn joined(dies: bool) -> (Result<Option<GroupEvent>, ClientError>, Vec<String>) {
    let coordinator = Arc::new(Mutex::new(Coordinator { dies, ..Coordinator::default() }));
    let shared = Arc::clone(&coordinator);
    let script = move |asked: Asked<'_>| shared.lock().unwrap().answer(asked);
    let address = scripted::start(&VERSIONS, || vec![0], script).await;
    let client = Client::connect(ClientConfig::new(address, "fenced")).await.unwrap();
    let mut config = GroupConfig::new("g", vec![TOPIC.to_owned()]);
    config.instance_id = Some("one".to_owned());
    let mut member = GroupConsumer::join(&client, config).await.unwrap();
    member.manage_positions(false);
    let first = member.poll(Duration::from_secs(20)).await;
    (first, std::mem::take(&mut coordinator.lock().unwrap().joins))
}

/// Its coordinator died between the join and the end of the generation, and the next one knows the id from before.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_was_forgotten_is_asked_for_again() {
    let (first, joins) = joined(true).await;
    assert!(matches!(first, Ok(Some(GroupEvent::Assigned { .. }))), "{first:?}");
    assert_eq!(joins, ["", "one-1", ""]);
}

/// The coordinator that gave the id says that another has taken it: this member must not throw that one out.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_replaced_gives_way() {
    let (first, joins) = joined(false).await;
    let error = first.err().unwrap();
    assert_eq!(error.code(), Some(ErrorCode::FencedInstanceId), "{error}");
    assert_eq!(joins, [""]);
}
