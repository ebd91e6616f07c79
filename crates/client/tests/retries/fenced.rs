//! A static member whose id the coordinator has forgotten before its first generation was complete, and one that was replaced.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use headwater_client::{
    Client, ClientConfig, ClientError, ErrorCode, GroupConfig, GroupConsumer, GroupEvent,
};
use headwater_wire::messages::{
    JoinGroupRequestData, JoinGroupResponseData, SyncGroupRequestData, SyncGroupResponseData,
};

use crate::classic::{self, Group};
use crate::scripted::{self, Asked, TOPIC};

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

impl Group for Coordinator {
    fn join(&mut self, asked: JoinGroupRequestData) -> JoinGroupResponseData {
        assert_eq!(asked.group_instance_id.map(|id| id.to_string()).as_deref(), Some("one"));
        self.joins.push(asked.member_id.to_string());
        if self.dies && self.joins.last().is_some_and(|id| !id.is_empty()) {
            return JoinGroupResponseData::default().with_error_code(ErrorCode::FencedInstanceId.code());
        }
        classic::joined(1, "another", &format!("one-{}", self.joins.len()))
    }

    fn sync(&mut self, asked: SyncGroupRequestData) -> Option<SyncGroupResponseData> {
        assert_eq!(asked.member_id.to_string(), format!("one-{}", self.joins.len()));
        self.syncs += 1;
        let code = match self.dies {
            true if self.syncs == 1 => return None,
            true => 0,
            false => ErrorCode::FencedInstanceId.code(),
        };
        let assignment = bytes::Bytes::from_static(NOTHING);
        Some(SyncGroupResponseData::default().with_error_code(code).with_assignment(assignment))
    }
}

/// What the member hears first, and the ids that it joined with.
async fn joined(dies: bool) -> (Result<Option<GroupEvent>, ClientError>, Vec<String>) {
    let coordinator = Arc::new(Mutex::new(Coordinator { dies, ..Coordinator::default() }));
    let shared = Arc::clone(&coordinator);
    let script = move |asked: Asked<'_>| classic::answer(&mut *shared.lock().unwrap(), asked);
    let address = scripted::start(&classic::VERSIONS, || vec![0], script).await;
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
