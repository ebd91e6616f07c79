//! What a member of the classic protocol asks its coordinator: read and written here, answered by the test.

use headwater_wire::ApiKey;
use headwater_wire::messages::{
    HeartbeatRequestData, HeartbeatResponseData, JoinGroupRequestData, JoinGroupResponseData,
    SyncGroupRequestData, SyncGroupResponseData,
};

use crate::scripted::Asked;

pub const VERSIONS: [(ApiKey, i16); 3] =
    [(ApiKey::JoinGroup, 7), (ApiKey::SyncGroup, 5), (ApiKey::Heartbeat, 4)];

/// What the test answers; `None` closes the connection instead.
pub trait Group {
    fn join(&mut self, asked: JoinGroupRequestData) -> JoinGroupResponseData;

    fn sync(&mut self, asked: SyncGroupRequestData) -> Option<SyncGroupResponseData>;

    fn beat(&mut self) -> Option<()> {
        Some(())
    }
}

pub fn answer(group: &mut impl Group, mut asked: Asked<'_>) -> Option<()> {
    match asked.key {
        ApiKey::JoinGroup => {
            let join = JoinGroupRequestData::read(&mut asked.body, asked.version).unwrap();
            group.join(join).write(asked.answer, asked.version).unwrap();
        }
        ApiKey::SyncGroup => {
            let sync = SyncGroupRequestData::read(&mut asked.body, asked.version).unwrap();
            group.sync(sync)?.write(asked.answer, asked.version).unwrap();
        }
        ApiKey::Heartbeat => {
            group.beat()?;
            HeartbeatRequestData::read(&mut asked.body, asked.version).unwrap();
            HeartbeatResponseData::default().write(asked.answer, asked.version).unwrap();
        }
        other => panic!("{other:?}"),
    }
    Some(())
}

/// A member is in this generation.
pub fn joined(generation: i32, leader: &str, member: &str) -> JoinGroupResponseData {
    JoinGroupResponseData::default()
        .with_generation_id(generation)
        .with_protocol_type(Some("consumer".to_owned().into()))
        .with_protocol_name(Some("range".to_owned().into()))
        .with_leader(leader.to_owned().into())
        .with_member_id(member.to_owned().into())
}
