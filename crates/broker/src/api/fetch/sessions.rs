//! All fetch sessions (KIP-227): who may have one, and which goes when there are too many.
//!
//! A session belongs to a principal: it continues it on any connection, by its id and epoch. Others do not find it, so that
//! nobody guesses ids to see or to end what another reads. A client without a session goes on naming all its partitions, so
//! that refusing is always safe.
//!
//! Invariant: there are never more sessions, nor more partitions in all of them, than the bounds say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use headwater_model::Principal;
use headwater_wire::ErrorCode;
use tokio::time::Instant;

use super::asked::{Asked, Key};
use super::scatter::{self, Answer, Response};
use super::session::{Session, next_epoch};

/// The id of no session.
pub const NONE: i32 = 0;
/// The epoch of a request that begins a session, and of one that wants none.
const INITIAL: i32 = 0;
const FINAL: i32 = -1;
/// Partitions of all sessions: some tens of megabytes.
const MOST_PARTITIONS: usize = 1 << 18;
/// One that was not used for so long goes; a younger one keeps its slot against larger ones.
const SETTLED: Duration = Duration::from_secs(120);

#[derive(Default)]
pub struct Sessions {
    /// `max.incremental.fetch.session.cache.slots`
    most: usize,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    slots: HashMap<i32, Slot>,
    partitions: usize,
}

struct Slot {
    owner: Arc<Principal>,
    session: Arc<Mutex<Session>>,
    created: Instant,
    used: Instant,
    partitions: usize,
}

/// What a request says of sessions.
pub struct Opening {
    /// Who asks.
    pub owner: Arc<Principal>,
    pub id: i32,
    pub epoch: i32,
    pub by_id: bool,
    pub asked: Vec<Asked>,
    pub forgotten: Vec<Key>,
}

/// What a response has to go through.
pub enum Context {
    Sessionless,
    /// A full request, which may begin a session.
    Full {
        owner: Arc<Principal>,
        by_id: bool,
    },
    Incremental {
        session: Arc<Mutex<Session>>,
        epoch: i32,
    },
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sessions {
    pub fn new(most: usize) -> Self {
        Self { most, cache: Mutex::default() }
    }

    /// All partitions that a request is for.
    pub fn open(&self, opening: Opening, now: Instant) -> Result<(Context, Vec<Asked>), ErrorCode> {
        let Opening { id, epoch, by_id, asked, .. } = opening;
        match epoch {
            INITIAL | FINAL => {
                if id != NONE {
                    lock(&self.cache).end(id, &opening.owner);
                }
                let context = match epoch {
                    FINAL => Context::Sessionless,
                    _ => Context::Full { owner: opening.owner, by_id },
                };
                Ok((context, asked))
            }
            _ => self.go_on(Opening { asked, ..opening }, now),
        }
    }

    fn go_on(&self, opening: Opening, now: Instant) -> Result<(Context, Vec<Asked>), ErrorCode> {
        let mut cache = lock(&self.cache);
        let slot = cache.slots.get(&opening.id).filter(|slot| slot.owner == opening.owner);
        let slot = slot.ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let shared = Arc::clone(&slot.session);
        let mut session = lock(&shared);
        if session.epoch != opening.epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.by_id != opening.by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        session.update(opening.asked, opening.forgotten);
        if session.len() == 0 {
            cache.remove(opening.id);
            return Ok((Context::Sessionless, Vec::new()));
        }
        if !cache.touch(opening.id, session.len(), now) {
            cache.remove(opening.id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        drop(cache);
        session.epoch = next_epoch(session.epoch);
        let (asked, epoch) = (session.asked(), session.epoch);
        drop(session);
        Ok((Context::Incremental { session: shared, epoch }, asked))
    }

    /// What the client is told of what was found.
    pub fn close(&self, context: Context, mut answers: Vec<Answer>, now: Instant) -> Response {
        match context {
            Context::Sessionless => Response { code: ErrorCode::None, session_id: NONE, answers },
            Context::Full { owner, by_id } => {
                let session_id = lock(&self.cache).begin(self.most, owner, by_id, &answers, now);
                Response { code: ErrorCode::None, session_id, answers }
            }
            Context::Incremental { session, epoch } => {
                let mut session = lock(&session);
                let session_id = session.id;
                if session.epoch != epoch {
                    // Another request of this session came meanwhile.
                    let code = ErrorCode::InvalidFetchSessionEpoch;
                    return Response { code, session_id, answers: Vec::new() };
                }
                session.keep_news(&mut answers);
                Response { code: ErrorCode::None, session_id, answers }
            }
        }
    }
}

impl Context {
    /// The bytes of a response with what is new of these answers.
    pub fn size(&self, answers: &[Answer]) -> usize {
        match self {
            Self::Sessionless | Self::Full { .. } => scatter::size(answers.iter()),
            Self::Incremental { session, .. } => {
                let session = lock(session);
                scatter::size(answers.iter().filter(|answer| session.is_news(answer)))
            }
        }
    }

    /// The response when a quota keeps back what was found: of no partition. A session goes on and remembers nothing
    /// of it, and none begins.
    pub fn hold_back(self) -> Response {
        let (code, session_id) = match self {
            Self::Sessionless | Self::Full { .. } => (ErrorCode::None, NONE),
            Self::Incremental { session, epoch } => {
                let session = lock(&session);
                let overtaken = session.epoch != epoch;
                (if overtaken { ErrorCode::InvalidFetchSessionEpoch } else { ErrorCode::None }, session.id)
            }
        };
        Response { code, session_id, answers: Vec::new() }
    }
}

impl Cache {
    fn remove(&mut self, id: i32) {
        if let Some(slot) = self.slots.remove(&id) {
            self.partitions -= slot.partitions;
        }
    }

    /// Whoever has a session may end it.
    fn end(&mut self, id: i32, owner: &Principal) {
        if self.slots.get(&id).is_some_and(|slot| *slot.owner == *owner) {
            self.remove(id);
        }
    }

    /// `false` when the session has become too large.
    fn touch(&mut self, id: i32, partitions: usize, now: Instant) -> bool {
        let Some(slot) = self.slots.get_mut(&id) else { return false };
        self.partitions = self.partitions - slot.partitions + partitions;
        slot.partitions = partitions;
        slot.used = now;
        self.partitions <= MOST_PARTITIONS
    }

    /// The id of a session for what was answered; that of none when there is no room.
    fn begin(
        &mut self,
        most: usize,
        owner: Arc<Principal>,
        by_id: bool,
        answers: &[Answer],
        now: Instant,
    ) -> i32 {
        if !self.make_room(most, answers.len(), now) {
            return NONE;
        }
        let id = self.unused_id();
        let session = Session::new(id, by_id, answers);
        let partitions = session.len();
        self.partitions += partitions;
        let session = Arc::new(Mutex::new(session));
        self.slots.insert(id, Slot { owner, session, created: now, used: now, partitions });
        id
    }

    /// One that is not used goes first, then the smallest that is smaller and settled.
    fn make_room(&mut self, most: usize, partitions: usize, now: Instant) -> bool {
        if self.slots.len() >= most {
            let is_old = |since: Instant| now.saturating_duration_since(since) > SETTLED;
            let unused = self.slots.iter().min_by_key(|(_, slot)| slot.used);
            let unused = unused.filter(|(_, slot)| is_old(slot.used));
            let smaller = self.slots.iter().filter(|(_, slot)| is_old(slot.created));
            let smallest = smaller.min_by_key(|(_, slot)| slot.partitions);
            let smallest = smallest.filter(|(_, slot)| slot.partitions < partitions);
            let Some((id, _)) = unused.or(smallest) else { return false };
            let id = *id;
            self.remove(id);
        }
        self.partitions + partitions <= MOST_PARTITIONS
    }

    /// Random, so that a client of the broker before does not meet another's session.
    fn unused_id(&self) -> i32 {
        loop {
            let [a, b, c, d, ..] = *uuid::Uuid::new_v4().as_bytes();
            let id = i32::from_be_bytes([a & 0x7f, b, c, d]);
            if id != NONE && !self.slots.contains_key(&id) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests;
