//! What members of groups send in their own formats: subscriptions, assignments, regular expressions.

use bytes::Bytes;
use headwater_coordinator::{
    Client, ConsumerGroupHeartbeat, Coordinator, Effect, JoinGroup, NewTopic, Request, Settings, StateRecord,
    SyncGroup,
};

/// Requests by the first byte of each piece; a 0xff stands between two pieces. What the coordinator writes down is
/// read as the same again, and a coordinator that replays it says of itself what the first one does.
pub fn groups(bytes: &[u8]) {
    let settings = || Settings { seed: 7, ..Settings::default() };
    let mut coordinator = Coordinator::new(settings());
    let mut log = Vec::new();
    let topic = NewTopic { name: "t".into(), partitions: 8, replication_factor: -1, configs: Vec::new() };
    let requests = std::iter::once(Request::CreateTopics { topics: vec![topic], validate_only: false });
    let pieces = bytes.split(|byte| *byte == 0xff).take(24).filter_map(request);
    for (ticket, request) in (1..).zip(requests.chain(pieces)) {
        let now = 1_000 + 50 * ticket as i64;
        let mut effects = coordinator.handle(ticket, &Client::default(), request, now);
        effects.extend(coordinator.tick(now));
        for effect in effects {
            if let Effect::Append(record) = effect {
                assert_eq!(StateRecord::decode(&record.encode()), Ok(record.clone()));
                log.push(record);
            }
        }
    }
    let mut second = Coordinator::new(settings());
    log.iter().for_each(|record| second.apply(record, 1_000_000));
}

fn request(piece: &[u8]) -> Option<Request> {
    let [what, who, rest @ ..] = piece else { return None };
    let group_id = if who & 0x40 == 0 { "classic" } else { "g" }.to_owned();
    let member_id = format!("member-{}", who & 7);
    let text = || String::from_utf8_lossy(rest).into_owned();
    let bytes = Bytes::copy_from_slice(rest);
    Some(match what % 4 {
        0 => Request::JoinGroup(JoinGroup {
            group_id,
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 10_000,
            member_id: if who & 8 == 0 { String::new() } else { member_id },
            instance_id: (who & 16 != 0).then(|| format!("instance-{}", who & 7)),
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), bytes)],
            require_known_member_id: false,
            supports_skipping_assignment: false,
        }),
        1 => Request::SyncGroup(SyncGroup {
            group_id,
            generation: i32::from(*who >> 3),
            member_id: member_id.clone(),
            instance_id: None,
            protocol_type: None,
            protocol: None,
            assignments: vec![(member_id, bytes)],
        }),
        2 => heartbeat(group_id, member_id, i32::from(*who >> 3) - 2, Some(text()), None),
        _ => heartbeat(group_id, member_id, i32::from(*who >> 3) - 2, None, Some(vec![text(), "t".into()])),
    })
}

fn heartbeat(
    group_id: String,
    member_id: String,
    member_epoch: i32,
    regex: Option<String>,
    topics: Option<Vec<String>>,
) -> Request {
    Request::ConsumerGroupHeartbeat(ConsumerGroupHeartbeat {
        group_id,
        member_id,
        member_epoch,
        instance_id: None,
        rack_id: None,
        rebalance_timeout_ms: Some(10_000),
        topics,
        regex,
        compiled: None,
        assignor: None,
        owned: Some(Default::default()),
        names_itself: true,
    })
}
