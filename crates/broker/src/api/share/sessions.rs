//! Share sessions: which partitions a member fetches, so that a request names only what changes.
//!
//! Invariant: a session ends with the connection that used it last.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use headwater_coordinator::TopicPartitionId;
use headwater_wire::ErrorCode;

/// Both ends of a connection: no two connections have the same at one time.
pub type Connection = (SocketAddr, SocketAddr);
/// A group and a member.
pub type Key = (String, String);

const INITIAL: i32 = 0;
const FINAL: i32 = -1;
/// `group.share.max.share.sessions`
const MOST: usize = 2_000;

#[derive(Default)]
pub struct ShareSessions {
    sessions: Mutex<HashMap<Key, Session>>,
}

struct Session {
    /// What the next request has to name.
    epoch: i32,
    partitions: Vec<TopicPartitionId>,
    /// Requests begin with another partition each, so that none waits for ever.
    turn: usize,
    connection: Connection,
}

/// What a request says of its session.
pub struct Opening {
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

impl ShareSessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn open(&self, opening: Opening) -> Result<Opened, ErrorCode> {
        let Opening { key, epoch, added, forgotten, connection } = opening;
        let mut sessions = self.lock();
        match epoch {
            INITIAL => {
                let before = sessions.remove(&key).is_some();
                if sessions.len() >= MOST {
                    return Err(ErrorCode::ShareSessionLimitReached);
                }
                let session = Session { epoch: 1, partitions: unique(added), turn: 0, connection };
                let partitions = session.partitions.clone();
                sessions.insert(key, session);
                Ok(if before { Opened::Anew(partitions) } else { Opened::On(partitions) })
            }
            FINAL => sessions.remove(&key).map(|_| Opened::Over).ok_or(ErrorCode::ShareSessionNotFound),
            epoch => {
                let session = sessions.get_mut(&key).ok_or(ErrorCode::ShareSessionNotFound)?;
                if session.epoch != epoch {
                    return Err(ErrorCode::InvalidShareSessionEpoch);
                }
                session.epoch = epoch.checked_add(1).unwrap_or(1);
                session.connection = connection;
                let forgotten: HashSet<TopicPartitionId> = forgotten.into_iter().collect();
                session.partitions.retain(|place| !forgotten.contains(place));
                session.partitions.extend(added);
                session.partitions = unique(std::mem::take(&mut session.partitions));
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
        let mut sessions = self.lock();
        let ended = sessions.iter().filter(|(_, session)| session.connection == connection);
        let ended: Vec<Key> = ended.map(|(key, _)| key.clone()).collect();
        for key in &ended {
            sessions.remove(key);
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
        let connection = connection(port);
        sessions.open(Opening { key, epoch, added, forgotten: Vec::new(), connection })
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
}
