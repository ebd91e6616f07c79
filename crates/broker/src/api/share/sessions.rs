//! Share sessions: which partitions a member fetches, so that a request names only what changes.
//!
//! Invariant: a session ends with the connection that used it last; there are never more sessions, nor more partitions in
//! all of them, than the bounds say; and one principal, where it can be told from others, leaves them half of both, as who
//! gets no session gets no records.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater_coordinator::TopicPartitionId;
use headwater_model::Principal;
use headwater_wire::ErrorCode;

/// Both ends of a connection: no two connections have the same at one time.
pub type Connection = (SocketAddr, SocketAddr);
/// A group and a member.
pub type Key = (String, String);

const INITIAL: i32 = 0;
const FINAL: i32 = -1;
/// `group.share.max.share.sessions`
const MOST: usize = 2_000;
/// Partitions of all sessions: some megabytes. Clients may name such as there are not.
const MOST_PARTITIONS: usize = 1 << 18;

#[derive(Default)]
pub struct ShareSessions {
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    sessions: HashMap<Key, Session>,
    /// Of all of them.
    partitions: usize,
}

struct Session {
    owner: Arc<Principal>,
    /// What the next request has to name.
    epoch: i32,
    partitions: Vec<TopicPartitionId>,
    /// Requests begin with another partition each, so that none waits for ever.
    turn: usize,
    connection: Connection,
}

/// What a request says of its session.
pub struct Opening {
    /// Who asks.
    pub owner: Arc<Principal>,
    pub key: Key,
    pub epoch: i32,
    pub added: Vec<TopicPartitionId>,
    pub forgotten: Vec<TopicPartitionId>,
    pub connection: Connection,
}

/// How a request goes on.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// With these partitions.
    On(Vec<TopicPartitionId>),
    /// The same; a session before has been given up, with what it held.
    Anew(Vec<TopicPartitionId>),
    /// It was the session's last.
    Over,
}

impl Held {
    /// Whether there was one.
    fn remove(&mut self, key: &Key) -> bool {
        let Some(session) = self.sessions.remove(key) else { return false };
        self.partitions -= session.partitions.len();
        true
    }

    /// Whether the principal may have a session with so many partitions, in the place of one that is there.
    fn has_room(&self, key: &Key, owner: &Principal, partitions: usize) -> bool {
        let own = self.sessions.get(key).map(|session| session.partitions.len());
        let others = self.sessions.len() - usize::from(own.is_some());
        others < MOST
            && self.partitions - own.unwrap_or(0) + partitions <= MOST_PARTITIONS
            && (*owner == Principal::anonymous() || self.leaves_half(key, owner, partitions))
    }

    fn leaves_half(&self, key: &Key, owner: &Principal, partitions: usize) -> bool {
        let beside =
            self.sessions.iter().filter(|(other, session)| *other != key && *session.owner == *owner);
        let (sessions, more) = beside
            .fold((0, 0), |(sessions, more), (_, session)| (sessions + 1, more + session.partitions.len()));
        sessions < MOST / 2 && more + partitions <= MOST_PARTITIONS / 2
    }
}

impl ShareSessions {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn open(&self, opening: Opening) -> Result<Opened, ErrorCode> {
        let Opening { owner, key, epoch, added, forgotten, connection } = opening;
        let mut held = self.lock();
        match epoch {
            INITIAL => {
                let partitions = unique(added);
                if !held.has_room(&key, &owner, partitions.len()) {
                    return Err(ErrorCode::ShareSessionLimitReached);
                }
                let before = held.remove(&key);
                held.partitions += partitions.len();
                let session =
                    Session { owner, epoch: 1, partitions: partitions.clone(), turn: 0, connection };
                held.sessions.insert(key, session);
                Ok(if before { Opened::Anew(partitions) } else { Opened::On(partitions) })
            }
            FINAL if held.remove(&key) => Ok(Opened::Over),
            FINAL => Err(ErrorCode::ShareSessionNotFound),
            epoch => {
                let session = held.sessions.get(&key).ok_or(ErrorCode::ShareSessionNotFound)?;
                if session.epoch != epoch {
                    return Err(ErrorCode::InvalidShareSessionEpoch);
                }
                let forgotten: HashSet<TopicPartitionId> = forgotten.into_iter().collect();
                let kept = session.partitions.iter().filter(|place| !forgotten.contains(*place));
                let partitions = unique(kept.copied().chain(added).collect());
                let before = session.partitions.len();
                if partitions.len() > before && !held.has_room(&key, &session.owner, partitions.len()) {
                    return Err(ErrorCode::ShareSessionLimitReached);
                }
                let Held { sessions, partitions: all } = &mut *held;
                let session = sessions.get_mut(&key).ok_or(ErrorCode::ShareSessionNotFound)?;
                *all = *all - before + partitions.len();
                session.epoch = epoch.checked_add(1).unwrap_or(1);
                session.connection = connection;
                session.partitions = partitions;
                session.turn += 1;
                let mut partitions = session.partitions.clone();
                let turn = session.turn % partitions.len().max(1);
                partitions.rotate_left(turn);
                Ok(Opened::On(partitions))
            }
        }
    }

    /// Ends the sessions of a connection.
    pub fn hang_up(&self, connection: Connection) -> Vec<Key> {
        let mut held = self.lock();
        let ended = held.sessions.iter().filter(|(_, session)| session.connection == connection);
        let ended: Vec<Key> = ended.map(|(key, _)| key.clone()).collect();
        for key in &ended {
            held.remove(key);
        }
        ended
    }
}

fn unique(partitions: Vec<TopicPartitionId>) -> Vec<TopicPartitionId> {
    let mut seen = std::collections::HashSet::new();
    partitions.into_iter().filter(|place| seen.insert(*place)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(port: u16) -> Connection {
        (SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([127, 0, 0, 1], 9092)))
    }

    fn open(sessions: &ShareSessions, epoch: i32, added: &[i32], port: u16) -> Result<Opened, ErrorCode> {
        let added = added.iter().map(|index| ([1; 16], *index)).collect();
        let key = ("g".to_owned(), "m".to_owned());
        let (owner, connection) = (Arc::default(), connection(port));
        sessions.open(Opening { owner, key, epoch, added, forgotten: Vec::new(), connection })
    }

    #[test]
    fn a_request_names_the_next_epoch_and_only_what_is_new() {
        let sessions = ShareSessions::default();
        assert_eq!(open(&sessions, 1, &[], 1), Err(ErrorCode::ShareSessionNotFound));
        assert_eq!(open(&sessions, 0, &[0], 1), Ok(Opened::On(vec![([1; 16], 0)])));
        let Ok(Opened::On(mut both)) = open(&sessions, 1, &[0, 1], 1) else { panic!("the session goes on") };
        both.sort_unstable();
        assert_eq!(both, [([1; 16], 0), ([1; 16], 1)]);
        assert_eq!(open(&sessions, 1, &[], 1), Err(ErrorCode::InvalidShareSessionEpoch));
        assert_eq!(open(&sessions, -1, &[], 1), Ok(Opened::Over));
        assert_eq!(open(&sessions, 2, &[], 1), Err(ErrorCode::ShareSessionNotFound));
    }

    #[test]
    fn a_session_ends_with_the_connection_that_used_it_last() {
        let sessions = ShareSessions::default();
        open(&sessions, 0, &[0], 1).expect("a session");
        open(&sessions, 1, &[], 2).expect("it goes on elsewhere");
        assert!(sessions.hang_up(connection(1)).is_empty());
        assert_eq!(sessions.hang_up(connection(2)).len(), 1);
        assert_eq!(open(&sessions, 2, &[], 2), Err(ErrorCode::ShareSessionNotFound));
    }

    /// A principal's member names partitions.
    fn names(
        sessions: &ShareSessions,
        owner: Principal,
        member: &str,
        epoch: i32,
        added: std::ops::Range<i32>,
    ) -> Result<Opened, ErrorCode> {
        let key = ("g".to_owned(), member.to_owned());
        let added = added.map(|index| ([1; 16], index)).collect();
        let (owner, connection) = (Arc::new(owner), connection(1));
        sessions.open(Opening { owner, key, epoch, added, forgotten: Vec::new(), connection })
    }

    #[test]
    fn whoever_can_be_told_from_others_leaves_them_half_of_all() {
        const REFUSED: Result<Opened, ErrorCode> = Err(ErrorCode::ShareSessionLimitReached);
        let sessions = ShareSessions::default();
        let by = |name: &str, member: &str, epoch, added| {
            names(&sessions, Principal::user(name), member, epoch, added)
        };
        let half = (MOST_PARTITIONS / 2) as i32;
        assert!(by("eve", "a", 0, 0..half - 1).is_ok());
        assert_eq!(by("eve", "b", 0, 0..2), REFUSED);
        assert_eq!(by("eve", "a", 1, 0..half + 1), REFUSED);
        assert!(by("eve", "a", 1, 0..half).is_ok());
        assert!(by("alice", "c", 0, 0..half).is_ok());
        assert_eq!(sessions.hang_up(connection(1)).len(), 2);
        for member in 0..MOST / 2 {
            assert!(by("eve", &member.to_string(), 0, 0..1).is_ok());
        }
        assert_eq!(by("eve", "one more", 0, 0..1), REFUSED);
        assert!(by("eve", "0", 0, 0..1).is_ok(), "in the place of its own");
        assert!(by("alice", "c", 0, 0..1).is_ok());
    }

    #[test]
    fn all_sessions_together_have_so_many_partitions_and_no_more() {
        let sessions = ShareSessions::default();
        let open =
            |member: &str, epoch, added| names(&sessions, Principal::anonymous(), member, epoch, added);
        let most = MOST_PARTITIONS as i32;
        assert!(open("a", 0, 0..most - 10).is_ok());
        assert!(open("b", 0, 0..10).is_ok());
        assert_eq!(open("c", 0, 0..1), Err(ErrorCode::ShareSessionLimitReached));
        assert_eq!(open("b", 1, 0..11), Err(ErrorCode::ShareSessionLimitReached));
        assert!(open("b", 1, 0..10).is_ok(), "what it has it may name again");
        assert!(open("a", 0, 0..5).is_ok(), "in the place of its own");
        assert!(open("c", 0, 0..most - 15).is_ok());
        assert_eq!(sessions.hang_up(connection(1)).len(), 3);
        assert!(open("a", 0, 0..most).is_ok());
    }
}
