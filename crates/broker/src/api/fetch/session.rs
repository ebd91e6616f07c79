//! One fetch session (KIP-227): the partitions a client goes on asking for, and what it knows of them.
//!
//! Partitions that had records move to the end of the order, so that none waits behind another for ever.

use std::collections::{BTreeMap, HashMap};

use headwater_model::Offset;
use headwater_wire::ErrorCode;

use super::asked::{Asked, Key};
use super::scatter::Answer;

/// Not a place in a response.
const UNKNOWN: Offset = -1;

struct Cached {
    asked: Asked,
    high_watermark: Offset,
    log_start: Offset,
}

pub struct Session {
    pub id: i32,
    /// What the next request has to name.
    pub epoch: i32,
    /// Whether topics are named by their ids, from the first request on.
    pub by_id: bool,
    order: BTreeMap<u64, Cached>,
    places: HashMap<Key, u64>,
    next: u64,
}

/// The epoch after this one; 0 and below have meanings of their own.
pub fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

impl Session {
    /// A session of what a full request was answered with.
    pub fn new(id: i32, by_id: bool, answers: &[Answer]) -> Self {
        let (order, places) = (BTreeMap::new(), HashMap::new());
        let mut session = Self { id, epoch: next_epoch(0), by_id, order, places, next: 0 };
        for answer in answers {
            session.put(Cached {
                asked: answer.asked.clone(),
                high_watermark: answer.data.high_watermark,
                log_start: answer.data.log_start_offset,
            });
        }
        session
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// At the end of the order; one that is there already goes.
    fn put(&mut self, cached: Cached) {
        let place = self.next;
        self.next += 1;
        if let Some(before) = self.places.insert(cached.asked.key(), place) {
            self.order.remove(&before);
        }
        self.order.insert(place, cached);
    }

    pub fn update(&mut self, asked: Vec<Asked>, forgotten: Vec<Key>) {
        for asked in asked {
            match self.places.get(&asked.key()).and_then(|place| self.order.get_mut(place)) {
                Some(cached) => cached.asked = asked,
                None => self.put(Cached { asked, high_watermark: UNKNOWN, log_start: UNKNOWN }),
            }
        }
        for key in forgotten {
            if let Some(place) = self.places.remove(&key) {
                self.order.remove(&place);
            }
        }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.order.values().map(|cached| cached.asked.clone()).collect()
    }

    /// Leaves what tells the client something, and remembers it.
    pub fn keep_news(&mut self, answers: &mut Vec<Answer>) {
        answers.retain(|answer| {
            let news = self.is_news(answer);
            self.remember(answer);
            news
        });
    }

    /// Whether it tells the client something; nothing when the partition has left the session since it was asked for.
    pub fn is_news(&self, answer: &Answer) -> bool {
        let place = self.places.get(&answer.asked.key());
        place.and_then(|place| self.order.get(place)).is_some_and(|cached| {
            answer.data.error_code != ErrorCode::None.code()
                || answer.bytes > 0
                || cached.high_watermark != answer.data.high_watermark
                || cached.log_start != answer.data.log_start_offset
        })
    }

    fn remember(&mut self, answer: &Answer) {
        let place = self.places.get(&answer.asked.key()).copied();
        let Some((place, cached)) = place.and_then(|place| Some((place, self.order.get_mut(&place)?))) else {
            return;
        };
        // Whatever comes after an error is news.
        let is_error = answer.data.error_code != ErrorCode::None.code();
        cached.high_watermark = if is_error { UNKNOWN } else { answer.data.high_watermark };
        cached.log_start = answer.data.log_start_offset;
        if answer.bytes > 0
            && let Some(cached) = self.order.remove(&place)
        {
            self.put(cached);
        }
    }
}
