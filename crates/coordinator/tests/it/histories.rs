//! Random histories: replay equals life, every ticket is answered once, fenced producers never win.

use std::collections::{BTreeMap, BTreeSet};

use headwater_coordinator::*;
use proptest::prelude::*;

use crate::support::{Bench, offset, settings};

#[derive(Debug, Clone)]
enum Step {
    Join { group: u8, member: u8, fixed: bool },
    Sync { group: u8, member: u8 },
    Beat { group: u8, member: u8 },
    Leave { group: u8, member: u8 },
    Cancel { back: u64 },
    Commit { group: u8, offset: i64 },
    Init { id: u8 },
    Add { id: u8, stale: bool },
    TxnCommit { id: u8, group: u8, stale: bool },
    End { id: u8, commit: bool, bump: bool, stale: bool },
    DeleteGroup { group: u8 },
    Pass { ms: i64 },
    Snapshot,
}

fn step() -> impl Strategy<Value = Step> {
    let (g, m, t) = (0..3u8, 0..4u8, 0..3u8);
    prop_oneof![
        6 => (g.clone(), m.clone(), any::<bool>()).prop_map(|(group, member, fixed)| Step::Join { group, member, fixed }),
        5 => (g.clone(), m.clone()).prop_map(|(group, member)| Step::Sync { group, member }),
        3 => (g.clone(), m.clone()).prop_map(|(group, member)| Step::Beat { group, member }),
        1 => (g.clone(), m).prop_map(|(group, member)| Step::Leave { group, member }),
        1 => (1..4u64).prop_map(|back| Step::Cancel { back }),
        2 => (g.clone(), 0..1000i64).prop_map(|(group, offset)| Step::Commit { group, offset }),
        1 => t.clone().prop_map(|id| Step::Init { id }),
        2 => (t.clone(), any::<bool>()).prop_map(|(id, stale)| Step::Add { id, stale }),
        3 => (t.clone(), g.clone(), any::<bool>()).prop_map(|(id, group, stale)| Step::TxnCommit { id, group, stale }),
        3 => (t, any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(id, commit, bump, stale)| Step::End { id, commit, bump, stale }),
        1 => g.prop_map(|group| Step::DeleteGroup { group }),
        2 => (1..70_000i64).prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::Snapshot),
    ]
}

/// What the clients know.
#[derive(Default)]
struct Clients {
    members: BTreeMap<(u8, u8), JoinedGroup>,
    joins: BTreeMap<u64, (u8, u8)>,
    producers: BTreeMap<u8, Vec<ProducerIdentity>>,
    cancelled: BTreeSet<u64>,
    /// Offsets of transactions that did not commit carry this mark and must never be seen.
    serial: i64,
    open: BTreeMap<u8, Vec<(u8, i64)>>,
    aborted: BTreeSet<i64>,
    seen_replies: usize,
    leaders: BTreeMap<(String, i32), String>,
}

impl Clients {
    fn producer(&self, id: u8, stale: bool) -> Option<(ProducerIdentity, bool)> {
        let known = self.producers.get(&id)?;
        match stale && known.len() > 1 {
            true => Some((known[known.len() - 2], true)),
            false => known.last().map(|producer| (*producer, false)),
        }
    }

    fn learn(&mut self, bench: &Bench) {
        for (ticket, response) in &bench.replies[self.seen_replies..] {
            let (Response::JoinGroup(joined), Some(who)) = (response, self.joins.get(ticket)) else {
                continue;
            };
            if joined.error.is_none() && !joined.members.is_empty() && !joined.skip_assignment {
                let generation = (format!("g{}", who.0), joined.generation);
                let leader = self.leaders.entry(generation).or_insert_with(|| joined.member_id.clone());
                // A static leader may be replaced within its generation by a member with the same instance id.
                let instance = |id: &str| id.starts_with("static");
                assert!(*leader == joined.member_id || instance(leader), "two leaders of one generation");
            }
            if joined.error.is_none() || joined.error == Some(Error::MemberIdRequired) {
                self.members.insert(*who, joined.clone());
            } else {
                self.members.remove(who);
            }
        }
        self.seen_replies = bench.replies.len();
    }

    fn end_open(&mut self, id: u8, commit: bool) {
        let offsets = self.open.remove(&id).unwrap_or_default();
        if !commit {
            self.aborted.extend(offsets.into_iter().map(|(_, offset)| offset));
        }
    }
}

fn run(steps: &[Step]) {
    let mut bench = Bench::with(Settings { initial_rebalance_delay_ms: 500, ..settings(5) });
    let mut clients = Clients::default();
    let mut tail: Option<(Vec<StateRecord>, usize)> = None;
    for step in steps {
        let name = |group: &u8| format!("g{group}");
        match step {
            Step::Join { group, member, fixed } => {
                let known =
                    clients.members.get(&(*group, *member)).map(|m| m.member_id.clone()).unwrap_or_default();
                let instance = format!("static{member}");
                let id = if *fixed { "" } else { &known };
                let ticket = bench.join(&name(group), id, fixed.then_some(instance.as_str()));
                clients.joins.insert(ticket, (*group, *member));
            }
            Step::Sync { group, member } => {
                if let Some(joined) = clients.members.get(&(*group, *member)) {
                    bench.sync(&name(group), joined);
                }
            }
            Step::Beat { group, member } => {
                if let Some(joined) = clients.members.get(&(*group, *member)) {
                    bench.heartbeat(&name(group), joined.generation, &joined.member_id);
                }
            }
            Step::Leave { group, member } => {
                if let Some(joined) = clients.members.remove(&(*group, *member)) {
                    let members = vec![LeavingMember { member_id: joined.member_id, instance_id: None }];
                    bench.ask(Request::LeaveGroup { group_id: name(group), members });
                }
            }
            Step::Cancel { back } => {
                if let Some(ticket) = bench.next_ticket.checked_sub(*back)
                    && bench.answer(ticket).is_none()
                {
                    bench.coordinator.cancel(ticket);
                    clients.cancelled.insert(ticket);
                }
            }
            Step::Commit { group, offset: at } => {
                bench.commit(&name(group), -1, "", vec![offset(0, *at)]);
            }
            Step::Init { id } => {
                let producer = bench.init(&format!("t{id}"), None).unwrap();
                clients.end_open(*id, false);
                clients.producers.entry(*id).or_default().push(producer);
            }
            Step::Add { id, stale } => {
                if let Some((producer, stale)) = clients.producer(*id, *stale) {
                    let error = bench.add(&format!("t{id}"), producer, 1);
                    assert!(!stale || error.is_some(), "a fenced epoch added a partition");
                }
            }
            Step::TxnCommit { id, group, stale } => {
                if let Some((producer, stale)) = clients.producer(*id, *stale) {
                    clients.serial += 1;
                    let at = 1_000_000 + clients.serial;
                    let error = bench.txn_commit(&format!("t{id}"), producer, &name(group), offset(0, at));
                    assert!(!stale || error.is_some(), "a fenced epoch committed an offset");
                    match error {
                        None => clients.open.entry(*id).or_default().push((*group, at)),
                        Some(_) => drop(clients.aborted.insert(at)),
                    }
                }
            }
            Step::End { id, commit, bump, stale } => {
                if let Some((producer, stale)) = clients.producer(*id, *stale) {
                    let markers = bench.markers.len();
                    let result = bench.end(&format!("t{id}"), producer, *commit, *bump);
                    assert!(!stale || bench.markers.len() == markers, "a fenced epoch ended a transaction");
                    if let (Ok(next), false) = (result, stale) {
                        clients.end_open(*id, *commit);
                        if next != producer {
                            clients.producers.entry(*id).or_default().push(next);
                        }
                    }
                }
            }
            Step::DeleteGroup { group } => {
                let gone = Response::DeleteGroups(vec![(name(group), None)]);
                if bench.ask(Request::DeleteGroups(vec![name(group)])) == gone {
                    clients.leaders.retain(|(id, _), _| *id != name(group));
                }
            }
            Step::Pass { ms } => {
                bench.pass(*ms);
                let all = Request::ListGroups { states: Vec::new(), types: Vec::new() };
                let Response::ListGroups(listed) = bench.ask(all) else { panic!("a list") };
                // A group that was empty for long enough is gone, and begins anew.
                clients.leaders.retain(|(id, _), _| listed.iter().any(|group| group.group_id == *id));
            }
            Step::Snapshot => tail = Some((bench.coordinator.snapshot(), bench.log.len())),
        }
        clients.learn(&bench);
        for group in 0..3u8 {
            let seen = bench.fetch(&name(&group), 0, false).unwrap();
            assert!(!clients.aborted.contains(&seen), "offset {seen} of an aborted transaction is visible");
        }
        clients.seen_replies = bench.replies.len();
    }
    assert_eq!(bench.replayed().snapshot(), bench.coordinator.snapshot(), "replay of all records");
    if let Some((snapshot, from)) = tail {
        let mut other = Coordinator::new(settings(98));
        for record in snapshot.iter().chain(&bench.log[from..]) {
            other.apply(record, bench.now);
        }
        assert_eq!(other.snapshot(), bench.coordinator.snapshot(), "replay of a snapshot and its tail");
    }
    bench.pass(3_600_000);
    let mut answers = BTreeMap::<u64, usize>::new();
    for (ticket, _) in &bench.replies {
        *answers.entry(*ticket).or_default() += 1;
    }
    for ticket in 0..bench.next_ticket {
        let expected = usize::from(!clients.cancelled.contains(&ticket));
        assert_eq!(answers.get(&ticket).copied().unwrap_or(0), expected, "answers to ticket {ticket}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_holds(steps in prop::collection::vec(step(), 1..120)) {
        run(&steps);
    }

    #[test]
    fn garbage_is_refused_or_is_a_record(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(record) = StateRecord::decode(&bytes) {
            Coordinator::new(settings(1)).apply(&record, 0);
        }
        let mut versioned = bytes;
        versioned.insert(0, VERSION);
        if let Ok(record) = StateRecord::decode(&versioned) {
            Coordinator::new(settings(1)).apply(&record, 0);
        }
    }
}

#[test]
fn truncated_and_prolonged_records_are_refused() {
    let mut bench = Bench::new();
    bench.commit("g", -1, "", vec![offset(0, 1)]);
    for record in &bench.log {
        let bytes = record.encode();
        for end in 0..bytes.len() {
            assert!(StateRecord::decode(&bytes[..end]).is_err());
        }
        assert!(StateRecord::decode(&[&bytes[..], &[0]].concat()).is_err());
        assert_eq!(StateRecord::decode(&[&[9], &bytes[1..]].concat()), Err(DecodeError::Version(9)));
    }
}
