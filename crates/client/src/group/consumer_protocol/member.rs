//! A member of the consumer protocol (KIP-848) as a state machine: facts and the time go in, acts come out. A member of the
//! streams protocol (KIP-1071) is the same, with tasks where this one has partitions of topics.
//!
//! Owns the member's epoch, what the coordinator has assigned, and what the caller works on; refuses to know sockets and
//! clocks. Invariant: the caller never works on a partition that a heartbeat under way or the last one answered did not
//! claim, so that the coordinator gives it to nobody else. What comes is claimed before it is handed out, and only while no
//! heartbeat that says less may still arrive; what goes is claimed until the caller has let go of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use headwater_model::TopicPartition;
use headwater_wire::ErrorCode;

use crate::ClientError;

pub(in crate::group) type TopicId = [u8; 16];
/// A partition of something: of a topic, or of a subtopology in a role.
pub(in crate::group) type Place<K = TopicId> = (K, i32);
pub(in crate::group) type Places<K = TopicId> = BTreeSet<Place<K>>;

/// The member epoch with which a member joins.
pub(in crate::group) const JOIN: i32 = 0;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long the coordinator may fail to answer before the membership ends.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a heartbeat is waited for at most, and at least: a coordinator that stands still must not cost the session, so
/// there is time for others.
const BEAT_PATIENCE: Duration = Duration::from_secs(15);
const LEAST_BEAT_PATIENCE: Duration = Duration::from_secs(1);
/// A heartbeat is late after so many intervals.
const LATE_INTERVALS: u32 = 3;
/// The broker does not tell how long sessions are: so many intervals by its defaults (45 s of 5 s), within these bounds.
const SESSION_INTERVALS: u32 = 9;
const SHORTEST_SESSION: Duration = Duration::from_secs(10);
const LONGEST_SESSION: Duration = Duration::from_secs(45);

/// One heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::group) struct Beat<K: Ord = TopicId> {
    pub(in crate::group) epoch: i32,
    /// It says everything: who joins, and who cannot know what the coordinator has heard.
    pub(in crate::group) full: bool,
    /// What the member has; `None` where the coordinator knows.
    pub(in crate::group) owned: Option<Places<K>>,
}

/// What the coordinator says to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::group) struct Answer<K: Ord = TopicId> {
    pub(in crate::group) epoch: i32,
    pub(in crate::group) interval: Duration,
    /// `None` where it is as before.
    pub(in crate::group) assignment: Option<Places<K>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::group) enum Act<K: Ord = TopicId> {
    /// Send it, then call `answered` or `failed`.
    Beat(Beat<K>),
    /// Ask what these topics are called, then call `resolved`.
    Look(BTreeSet<K>),
    /// Find out where these are read from, then call `taken` with the round.
    Take { round: u64, places: Places<K> },
    /// Tell the caller, and call `released` when it has let go; what is lost is another's already.
    Revoke { places: Places<K>, lost: bool },
}

/// What the caller has from here on.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::group) struct Handed<K: Ord = TopicId> {
    pub(in crate::group) all: Places<K>,
    pub(in crate::group) new: Places<K>,
}

#[derive(Debug)]
pub(in crate::group) struct Member<K: Ord = TopicId> {
    epoch: i32,
    target: Places<K>,
    /// The caller works on these.
    owned: Places<K>,
    /// Claimed, and not handed to the caller yet; the round of the `Take` that is under way.
    taking: Places<K>,
    round: Option<u64>,
    rounds: u64,
    /// The caller was told to let go of these.
    revoking: Option<Places<K>>,
    /// How many revocations the caller has not answered.
    outstanding: usize,
    /// The caller is to be told what it has, also where nothing is new.
    tell: bool,
    /// The caller has been told of an assignment of this membership.
    told: bool,
    names: BTreeMap<K, String>,
    looking: bool,
    look: Retry,
    beats: Beats<K>,
    acts: VecDeque<Act<K>>,
}

/// When heartbeats are sent, and what the coordinator has heard.
#[derive(Debug)]
struct Beats<K: Ord> {
    /// What the heartbeat under way claims, and since when it is.
    under_way: Option<(Places<K>, Duration)>,
    /// What the last one claimed that was answered.
    said: Option<Places<K>>,
    /// The last one was not answered: it may have arrived or not, or arrive late.
    uncertain: bool,
    interval: Duration,
    retry: Retry,
    /// The last answer, or the beginning.
    heard: Duration,
}

/// When something is done next, and how long to wait after it has failed.
#[derive(Debug)]
struct Retry {
    due: Duration,
    pause: Duration,
}

impl Retry {
    fn new(due: Duration) -> Self {
        Self { due, pause: FIRST_PAUSE }
    }

    /// `jitter` is between 0 and 1.
    fn later(&mut self, now: Duration, jitter: f64) {
        self.due = now + self.pause.mul_f64(0.5 + jitter / 2.0);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

impl<K: Copy + Ord> Member<K> {
    pub(in crate::group) fn new(now: Duration) -> Self {
        let beats = Beats {
            under_way: None,
            said: None,
            uncertain: true,
            interval: Duration::ZERO,
            retry: Retry::new(now),
            heard: now,
        };
        Self {
            epoch: JOIN,
            target: Places::new(),
            owned: Places::new(),
            taking: Places::new(),
            round: None,
            rounds: 0,
            revoking: None,
            outstanding: 0,
            tell: true,
            told: false,
            names: BTreeMap::new(),
            looking: false,
            look: Retry::new(now),
            beats,
            acts: VecDeque::new(),
        }
    }

    /// 0 while the member is not in the group.
    pub(in crate::group) fn epoch(&self) -> i32 {
        self.epoch
    }

    /// The partition by its name, which whatever was handed out or revoked has.
    pub(in crate::group) fn named(&self, place: &Place<K>) -> Option<TopicPartition> {
        self.names.get(&place.0).map(|name| TopicPartition::new(name.as_str(), place.1))
    }

    /// What is to be done now; to be asked again until there is nothing.
    pub(in crate::group) fn next(&mut self, now: Duration) -> Option<Act<K>> {
        if let Some(act) = self.acts.pop_front() {
            return Some(act);
        }
        if self.may_beat() && now >= self.beats.retry.due {
            return Some(Act::Beat(self.beat(now)));
        }
        let unknown = self.unknown();
        if !unknown.is_empty() && !self.looking && now >= self.look.due {
            self.looking = true;
            return Some(Act::Look(unknown));
        }
        None
    }

    /// When there is something to do although nothing happens.
    pub(in crate::group) fn wake_at(&self) -> Option<Duration> {
        let beat = self.may_beat().then_some(self.beats.retry.due);
        let look = (!self.looking && !self.unknown().is_empty()).then_some(self.look.due);
        beat.into_iter().chain(look).min()
    }

    /// Who has lost everything joins again when the caller knows it.
    fn may_beat(&self) -> bool {
        self.beats.under_way.is_none() && (self.epoch != JOIN || self.outstanding == 0)
    }

    fn beat(&mut self, now: Duration) -> Beat<K> {
        let claimed = self.claimed();
        let full = self.epoch == JOIN || self.beats.uncertain;
        let news = full || self.beats.said.as_ref() != Some(&claimed);
        let beat = Beat { epoch: self.epoch, full, owned: news.then(|| claimed.clone()) };
        self.beats.under_way = Some((claimed, now));
        beat
    }

    fn claimed(&self) -> Places<K> {
        self.owned.union(&self.taking).copied().collect()
    }

    /// The assigned topics whose names are not known.
    fn unknown(&self) -> BTreeSet<K> {
        self.target.iter().map(|(id, _)| *id).filter(|id| !self.names.contains_key(id)).collect()
    }

    /// The next heartbeat is sent at once, unless the coordinator is given a pause.
    pub(in crate::group) fn hurry(&mut self, now: Duration) {
        if !self.beats.uncertain {
            self.beats.retry.due = self.beats.retry.due.min(now);
        }
    }

    pub(in crate::group) fn answered(&mut self, answer: Answer<K>, now: Duration) {
        let Some((claimed, sent)) = self.beats.under_way.take() else { return };
        self.epoch = answer.epoch;
        self.beats.said = Some(claimed);
        self.beats.uncertain = false;
        self.beats.heard = now;
        self.beats.interval = answer.interval;
        self.beats.retry = Retry::new(sent + answer.interval);
        if let Some(assignment) = answer.assignment {
            self.target = assignment;
            self.look = Retry::new(now);
            let (target, owned) = (&self.target, &self.owned);
            self.names.retain(|id, _| target.iter().chain(owned).any(|(used, _)| used == id));
        }
        self.reconcile();
        self.say_what_changed(now);
    }

    /// The heartbeat was refused or not answered. Whether the membership goes on; `jitter` is between 0 and 1.
    pub(in crate::group) fn failed(&mut self, error: &ClientError, now: Duration, jitter: f64) -> bool {
        self.beats.under_way = None;
        self.beats.uncertain = true;
        match error.code() {
            Some(code) if self.is_put_out(code) => {
                // Whoever is put out joins again at once, and after a pause when that does not help.
                let again = self.epoch == JOIN;
                self.lose();
                match again {
                    true => self.beats.retry.later(now, jitter),
                    false => (self.beats.heard, self.beats.retry) = (now, Retry::new(now)),
                }
            }
            _ if error.is_retriable() => self.beats.retry.later(now, jitter),
            _ => return false,
        }
        // The session is over, and others have what this member reads: it must not read on.
        if self.told && self.silence(now) >= self.session() {
            self.lose();
        }
        self.silence(now) < PATIENCE
    }

    fn session(&self) -> Duration {
        (self.beats.interval * SESSION_INTERVALS).clamp(SHORTEST_SESSION, LONGEST_SESSION)
    }

    /// How long the next heartbeat is waited for.
    pub(in crate::group) fn beat_patience(&self) -> Duration {
        match self.beats.interval {
            Duration::ZERO => BEAT_PATIENCE,
            interval => (interval * LATE_INTERVALS).clamp(LEAST_BEAT_PATIENCE, BEAT_PATIENCE),
        }
    }

    /// A group without members and offsets may have been deleted while this one was away; joining makes it again.
    fn is_put_out(&self, code: ErrorCode) -> bool {
        let is_gone = code == ErrorCode::GroupIdNotFound && self.epoch != JOIN;
        is_gone || matches!(code, ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId)
    }

    /// How long the coordinator has not answered.
    pub(in crate::group) fn silence(&self, now: Duration) -> Duration {
        now.saturating_sub(self.beats.heard)
    }

    /// The coordinator has this member no more, or as another.
    fn lose(&mut self) {
        let revoking = self.revoking.take().unwrap_or_default();
        let places: Places<K> = self.owned.difference(&revoking).copied().collect();
        if std::mem::take(&mut self.told) {
            self.outstanding += 1;
            self.acts.push_back(Act::Revoke { places, lost: true });
        }
        (self.epoch, self.tell, self.round) = (JOIN, true, None);
        self.owned.clear();
        self.taking.clear();
        self.target.clear();
        self.beats.said = None;
    }

    /// The caller has let go of what it was told to.
    pub(in crate::group) fn released(&mut self, now: Duration) {
        self.outstanding = self.outstanding.saturating_sub(1);
        match self.revoking.take() {
            Some(gone) => {
                self.owned.retain(|place| !gone.contains(place));
                self.tell = true;
                self.hurry(now);
            }
            None if self.epoch == JOIN && self.outstanding == 0 => {
                (self.beats.heard, self.beats.retry) = (now, Retry::new(now));
            }
            None => {}
        }
    }

    /// What the topics that were asked for are called; those that are missing are asked for again.
    pub(in crate::group) fn resolved(&mut self, names: BTreeMap<K, String>, now: Duration, jitter: f64) {
        self.looking = false;
        self.names.extend(names);
        if !self.unknown().is_empty() {
            self.look.later(now, jitter);
        }
        self.reconcile();
        self.say_what_changed(now);
    }

    /// What is still to be taken in this round; `None` where it is over.
    pub(in crate::group) fn still_taking(&self, round: u64) -> Option<&Places<K>> {
        (self.round == Some(round)).then_some(&self.taking)
    }

    /// Where the places of this round are read from is known: what of them is still this member's.
    pub(in crate::group) fn taken(&mut self, round: u64, now: Duration) -> Option<Handed<K>> {
        if self.round != Some(round) {
            return None;
        }
        self.round = None;
        self.told = true;
        let new = std::mem::take(&mut self.taking);
        self.owned.extend(&new);
        let handed = Handed { all: self.owned.clone(), new };
        self.reconcile();
        self.say_what_changed(now);
        Some(handed)
    }

    /// One step towards the assignment: let go first; take what is new once the coordinator has heard of it.
    fn reconcile(&mut self) {
        if self.epoch == JOIN {
            return;
        }
        self.taking.retain(|place| self.target.contains(place));
        if self.revoking.is_some() {
            return;
        }
        let gone: Places<K> = self.owned.difference(&self.target).copied().collect();
        if !gone.is_empty() {
            self.outstanding += 1;
            self.revoking = Some(gone.clone());
            self.acts.push_back(Act::Revoke { places: gone, lost: false });
            return;
        }
        let says_less = self.beats.under_way.is_some() || self.beats.uncertain;
        if says_less || self.round.is_some() || self.beats.said.as_ref() != Some(&self.claimed()) {
            return;
        }
        let is_new = |place: &&Place<K>| !self.owned.contains(*place) && self.names.contains_key(&place.0);
        let places: Places<K> = self.target.iter().filter(is_new).copied().collect();
        // Nothing is told while names that make it something are on their way.
        if places.is_empty() && (!self.tell || !self.unknown().is_empty()) {
            return;
        }
        self.tell = false;
        self.rounds += 1;
        self.round = Some(self.rounds);
        self.taking = places.clone();
        self.acts.push_back(Act::Take { round: self.rounds, places });
    }

    fn say_what_changed(&mut self, now: Duration) {
        if self.epoch != JOIN && self.beats.said.as_ref() != Some(&self.claimed()) {
            self.hurry(now);
        }
    }
}

#[cfg(test)]
mod tests;
