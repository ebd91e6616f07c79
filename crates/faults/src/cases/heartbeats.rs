//! group-4 with KIP-848: every heartbeat of a large group through a rolling restart, counted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use headwater_wire::messages::consumer_group_heartbeat_request::TopicPartitions;
use headwater_wire::messages::{ConsumerGroupHeartbeatRequestData, ConsumerGroupHeartbeatResponseData};
use headwater_wire::{ErrorCode, KafkaUuid};

use super::fsync::noticed;
use crate::case::{Case, Extent, Run};
use crate::kafka::{Connection, NewTopic, Power};
use crate::verify::Violation;

pub const ROLLING: Case = Case {
    name: "group-4-rolling-consumer",
    promise: "P5 P12",
    about: "a rolling restart of a KIP-848 group (500 members on 1,000 partitions with --long): no partition twice, and what it costs",
    needs: &[],
    quick: Extent { runs: 1, seconds: 8 },
    long: Extent { runs: 3, seconds: 1800 },
    run: rolling,
};

const GROUP: &str = "g";
const TOPIC: &str = "t";
const REBALANCE_MS: i32 = 60_000;
/// So often everybody is heard before a group counts as one that does not settle.
const MOST_ROUNDS: usize = 200;

struct Member {
    id: String,
    epoch: i32,
    owned: BTreeSet<i32>,
    topic: KafkaUuid,
    /// What it owns has changed since its last heartbeat.
    must_tell: bool,
}

struct Crowd {
    connection: Connection,
    members: Vec<Member>,
    owners: BTreeMap<i32, String>,
    next: usize,
    heartbeats: usize,
    complaints: Vec<String>,
}

impl Crowd {
    fn join(&mut self) {
        self.next += 1;
        let id = format!("member-{:05}", self.next);
        let (owned, topic) = (BTreeSet::new(), KafkaUuid::default());
        self.members.push(Member { id, epoch: 0, owned, topic, must_tell: true });
    }

    fn request(member: &Member) -> ConsumerGroupHeartbeatRequestData {
        let request = ConsumerGroupHeartbeatRequestData::default()
            .with_group_id(GROUP.to_owned().into())
            .with_member_id(member.id.clone().into())
            .with_member_epoch(member.epoch)
            .with_rebalance_timeout_ms(-1);
        if !member.must_tell {
            return request;
        }
        let owned = TopicPartitions::default()
            .with_topic_id(member.topic)
            .with_partitions(member.owned.iter().copied().collect());
        let owned = if member.owned.is_empty() { Vec::new() } else { vec![owned] };
        request
            .with_rebalance_timeout_ms(REBALANCE_MS)
            .with_subscribed_topic_names(Some(vec![TOPIC.to_owned().into()]))
            .with_topic_partitions(Some(owned))
    }

    /// One heartbeat of one member; whether it changed something.
    fn heartbeat(&mut self, place: usize) -> Result<bool> {
        let request = Self::request(&self.members[place]);
        self.heartbeats += 1;
        let answer = self.connection.call(&request)?;
        match ErrorCode::from(answer.error_code) {
            ErrorCode::None => {}
            code => bail!("{}: {code:?} {:?}", self.members[place].id, answer.error_message),
        }
        Ok(self.take(place, &answer))
    }

    fn take(&mut self, place: usize, answer: &ConsumerGroupHeartbeatResponseData) -> bool {
        let member = &mut self.members[place];
        let mut changed = member.epoch != answer.member_epoch || member.must_tell;
        member.epoch = answer.member_epoch;
        member.must_tell = false;
        let Some(assignment) = &answer.assignment else { return changed };
        let mut wanted = BTreeSet::new();
        for topic in &assignment.topic_partitions {
            member.topic = topic.topic_id;
            wanted.extend(topic.partitions.iter().copied());
        }
        for gone in member.owned.difference(&wanted) {
            self.owners.remove(gone);
        }
        for new in wanted.difference(&member.owned) {
            if let Some(other) = self.owners.insert(*new, member.id.clone()) {
                self.complaints
                    .push(format!("partition {new} is given to {} while {other} has it", member.id));
            }
        }
        if wanted != member.owned {
            member.owned = wanted;
            member.must_tell = true;
            changed = true;
        }
        changed
    }

    /// Everybody is heard once.
    fn round(&mut self) -> Result<bool> {
        let mut changed = false;
        for place in 0..self.members.len() {
            changed |= self.heartbeat(place)?;
        }
        Ok(changed)
    }

    /// Rounds until nothing changes; `None` when that does not come about.
    fn settle(&mut self, partitions: usize) -> Result<Option<usize>> {
        for round in 0..MOST_ROUNDS {
            let changed = self.round()?;
            if !changed && self.owners.len() == partitions {
                return Ok(Some(round));
            }
        }
        Ok(None)
    }

    fn leave(&mut self, place: usize) -> Result<()> {
        let mut member = self.members.remove(place);
        member.epoch = -1;
        member.must_tell = false;
        for partition in &member.owned {
            self.owners.remove(partition);
        }
        self.heartbeats += 1;
        let answer = self.connection.call(&Self::request(&member))?;
        if answer.error_code != 0 {
            bail!("{} cannot leave: {:?}", member.id, ErrorCode::from(answer.error_code));
        }
        Ok(())
    }
}

fn rolling(run: &Run) -> Result<Option<Vec<Violation>>> {
    let (members, partitions) = if run.context.long { (500, 1000) } else { (60, 120) };
    let mut launch = run.launch(&run.data());
    launch.configs.push(("group.consumer.max.size".to_owned(), "1000".to_owned()));
    let broker = launch.serve()?;
    let mut connection = Connection::open(&broker.address, Duration::from_secs(30), &Power::default())?;
    let topic = NewTopic { name: TOPIC.to_owned(), partitions: partitions as i32, configs: Vec::new() };
    connection.create_topic(&topic)?;
    let mut crowd = Crowd {
        connection,
        members: Vec::new(),
        owners: BTreeMap::new(),
        next: 0,
        heartbeats: 0,
        complaints: Vec::new(),
    };
    (0..members).for_each(|_| crowd.join());
    let gathered = crowd.settle(partitions).context("gathering")?;
    let gathering = std::mem::take(&mut crowd.heartbeats);
    let (begun, ticks) = (Instant::now(), broker.ticks());
    for number in 0..members {
        crowd.leave(0)?;
        crowd.join();
        // The others are heard now and then, not between any two restarts.
        if number % (members / 20).max(1) == 0 {
            crowd.round().context("during the restart")?;
        }
    }
    let settled = crowd.settle(partitions).context("after the restart")?;
    run.note(format!(
        "{members} members on {partitions} partitions: gathered with {gathering} heartbeats ({gathered:?} rounds), restarted with {} ({settled:?} rounds at the end) in {:?}, {} ticks of the broker's processor time",
        crowd.heartbeats,
        begun.elapsed(),
        broker.ticks() - ticks
    ));
    let mut violations: Vec<Violation> = crowd.complaints.into_iter().map(noticed).collect();
    if gathered.is_none() || settled.is_none() {
        violations.push(noticed(format!("the group does not settle in {MOST_ROUNDS} rounds of heartbeats")));
    }
    broker.kill()?;
    Ok(Some(violations))
}
