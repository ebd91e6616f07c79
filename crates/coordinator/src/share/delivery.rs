//! Acquire, acknowledge, release, time out: what may be done to records, and what they become.

use std::sync::Arc;

use headwater_model::{Offset, TimestampMs};

use super::configs::ShareSettings;
use super::partition::{SharePartition, Span, Standing};
use super::records::{ShareRange, ShareState};
use super::request::{AcknowledgeType, AcknowledgementBatch, Acquired, ReadBatch, ReadBatches};
use crate::error::Error;

/// Who takes records, how many, and until when.
pub(super) struct Taker {
    pub member: Arc<str>,
    pub deadline: TimestampMs,
    /// How many are still wanted.
    pub left: i64,
    pub strict: bool,
    pub batch_size: i64,
}

/// What an offer of records led to.
#[derive(Default)]
pub(super) struct Taken {
    pub acquired: Vec<Acquired>,
    /// Offsets without records, which are archived.
    pub changes: Vec<ShareRange>,
}

fn archived(first: Offset, last: Offset, delivery_count: i16) -> ShareRange {
    ShareRange { first, last, state: ShareState::Archived, delivery_count }
}

/// What a record becomes that is given back after so many deliveries.
fn given_back(first: Offset, last: Offset, delivery_count: i16, limit: i16) -> ShareRange {
    let state = if delivery_count >= limit { ShareState::Archived } else { ShareState::Available };
    ShareRange { first, last, state, delivery_count }
}

/// So often delivered in vain, a record is suspect: it may be what its consumers fail at. Half of what is allowed, as with
/// Apache Kafka; none is where hardly any deliveries are allowed.
fn suspect_from(limit: i16) -> Option<i16> {
    (limit > 2).then_some(limit / 2 + limit % 2)
}

impl SharePartition {
    /// Acquires what is available of the records that were read.
    pub fn acquire(&mut self, taker: &mut Taker, read: &ReadBatches, settings: &ShareSettings) -> Taken {
        let mut taken = Taken::default();
        let mut at = read.from;
        for batch in &read.batches {
            if taker.left <= 0 {
                break;
            }
            let first = batch.first.max(at);
            let has_suspects = !batch.skipped && self.has_suspects(first, batch.last, settings);
            // Suspects are delivered without what is in other batches, so that it does not fail with them.
            if has_suspects && !taken.acquired.is_empty() {
                break;
            }
            if batch.first > at {
                self.skip(at, batch.first - 1, &mut taken);
            }
            if has_suspects {
                self.take_few(first, batch, taker, settings, &mut taken);
                break;
            }
            if batch.skipped {
                self.skip(first, batch.last, &mut taken);
            } else {
                for (at, span) in self.offered(first, batch.last) {
                    self.take(at, span, taker, settings.max_record_locks, &mut taken);
                }
            }
            at = batch.last + 1;
        }
        self.apply(&taken.changes);
        if !taken.acquired.is_empty() {
            let deadline = Some(taker.deadline);
            self.next_deadline = self.next_deadline.map_or(deadline, |next| Some(next.min(taker.deadline)));
        }
        taken
    }

    /// What can be had in `first..=last`: available again, or for the first time.
    fn offered(&self, first: Offset, last: Offset) -> Vec<(Offset, Span)> {
        let mut offered = self.within(first, last);
        offered.retain(|(_, span)| span.standing == Standing::Available);
        let first = first.max(self.end());
        if first <= last {
            offered.push((first, Span { last, standing: Standing::Available, delivery_count: 0 }));
        }
        offered
    }

    fn skip(&mut self, first: Offset, last: Offset, taken: &mut Taken) {
        let offered = self.offered(first, last);
        taken.changes.extend(offered.iter().map(|(at, span)| archived(*at, span.last, span.delivery_count)));
    }

    fn take(&mut self, at: Offset, mut span: Span, taker: &mut Taker, most: i64, taken: &mut Taken) {
        if taker.strict {
            span.last = span.last.min(at + taker.left - 1);
        }
        if at >= self.end() {
            span.last = span.last.min(self.start() + most - 1);
        }
        if span.last < at {
            return;
        }
        span.delivery_count += 1;
        span.standing = Standing::Acquired { member: Arc::clone(&taker.member), deadline: taker.deadline };
        taker.left -= span.last - at + 1;
        tell(&mut taken.acquired, at, &span, taker.batch_size);
        self.set(at, span);
    }

    fn has_suspects(&self, first: Offset, last: Offset, settings: &ShareSettings) -> bool {
        let from = suspect_from(settings.delivery_count_limit).filter(|_| first < self.end());
        from.is_some_and(|from| self.offered(first, last).iter().any(|(_, span)| span.delivery_count >= from))
    }

    /// Of a batch with suspects half with the first such delivery, half of that with the next, and with the last that a
    /// record has nothing else: one that nobody can bear does not take others with it.
    fn take_few(
        &mut self,
        first: Offset,
        batch: &ReadBatch,
        taker: &mut Taker,
        settings: &ShareSettings,
        taken: &mut Taken,
    ) {
        let limit = settings.delivery_count_limit;
        let from = suspect_from(limit).unwrap_or(limit);
        let before = taker.left;
        let mut few = i64::MAX;
        for (at, mut span) in self.offered(first, batch.last) {
            let took = before - taker.left;
            if span.delivery_count >= from {
                let is_last = span.delivery_count + 1 >= limit;
                if is_last && took > 0 {
                    break;
                }
                if few == i64::MAX {
                    let halved = (batch.last - batch.first + 1) >> (span.delivery_count - from + 1).min(62);
                    few = if is_last { 1 } else { halved.max(1) };
                }
            }
            if took >= few {
                break;
            }
            span.last = span.last.min(at.saturating_add(few - took - 1));
            self.take(at, span, taker, settings.max_record_locks, taken);
        }
    }

    /// Decides what the records of these batches become; renews locks at once.
    pub fn acknowledge(
        &mut self,
        member: &str,
        batches: &[AcknowledgementBatch],
        settings: &ShareSettings,
        now: TimestampMs,
    ) -> Result<Vec<ShareRange>, Error> {
        let mut changes = Vec::new();
        let mut renewed = Vec::new();
        for (first, last, kind) in batches.iter().flat_map(runs) {
            // What is below the start went with the beginning of the log.
            let first = first.max(self.start());
            if last < first {
                continue;
            }
            for (at, span) in self.held(member, first, last)? {
                let range = |state| ShareRange {
                    first: at,
                    last: span.last,
                    state,
                    delivery_count: span.delivery_count,
                };
                match kind {
                    AcknowledgeType::Accept => changes.push(range(ShareState::Acknowledged)),
                    AcknowledgeType::Gap | AcknowledgeType::Reject => {
                        changes.push(range(ShareState::Archived))
                    }
                    AcknowledgeType::Release => {
                        let limit = settings.delivery_count_limit;
                        changes.push(given_back(at, span.last, span.delivery_count, limit));
                    }
                    AcknowledgeType::Renew if settings.renew => renewed.push((at, span)),
                    AcknowledgeType::Renew => return Err(Error::InvalidRecordState),
                }
            }
        }
        self.renew(member, renewed, now.saturating_add(settings.lock_duration_ms.into()));
        Ok(changes)
    }

    fn renew(&mut self, member: &str, renewed: Vec<(Offset, Span)>, deadline: TimestampMs) {
        let member: Arc<str> = member.into();
        for (first, span) in renewed {
            let standing = Standing::Acquired { member: Arc::clone(&member), deadline };
            self.set(first, Span { standing, ..span });
        }
        self.settle();
    }

    /// The spans of `first..=last`, all of which the member must have acquired.
    fn held(&self, member: &str, first: Offset, last: Offset) -> Result<Vec<(Offset, Span)>, Error> {
        let spans = self.within(first, last);
        let is_held =
            |span: &Span| matches!(&span.standing, Standing::Acquired { member: of, .. } if &**of == member);
        let all = last < self.end() && spans.iter().all(|(_, span)| is_held(span));
        if all { Ok(spans) } else { Err(Error::InvalidRecordState) }
    }

    /// Gives back what the member holds as if it had not been delivered; whether that was anything.
    pub fn release(&mut self, member: &str) -> bool {
        let held = self.spans().filter(
            |(_, span)| matches!(&span.standing, Standing::Acquired { member: of, .. } if &**of == member),
        );
        let held: Vec<_> = held.map(|(first, span)| (first, span.clone())).collect();
        let any = !held.is_empty();
        for (first, span) in held {
            let delivery_count = span.delivery_count - 1;
            self.set(first, Span { standing: Standing::Available, delivery_count, ..span });
        }
        self.settle();
        any
    }

    /// What the records become whose locks have ended.
    pub fn expired(&mut self, limit: i16, now: TimestampMs) -> Vec<ShareRange> {
        let mut changes = Vec::new();
        let mut next: Option<TimestampMs> = None;
        for (first, span) in self.spans() {
            match span.standing {
                Standing::Acquired { deadline, .. } if deadline <= now => {
                    changes.push(given_back(first, span.last, span.delivery_count, limit));
                }
                Standing::Acquired { deadline, .. } => {
                    next = Some(next.map_or(deadline, |next| next.min(deadline)));
                }
                _ => {}
            }
        }
        self.next_deadline = next;
        changes
    }
}

/// Adds a span to what is told, to the range before it as long as that is short.
fn tell(acquired: &mut Vec<Acquired>, first: Offset, span: &Span, batch_size: i64) {
    match acquired.last_mut() {
        Some(before)
            if before.last + 1 == first
                && before.delivery_count == span.delivery_count
                && before.last - before.first + 1 < batch_size =>
        {
            before.last = span.last;
        }
        _ => acquired.push(Acquired { first, last: span.last, delivery_count: span.delivery_count }),
    }
}

/// Offsets that follow each other and were acknowledged alike.
fn runs(batch: &AcknowledgementBatch) -> Vec<(Offset, Offset, AcknowledgeType)> {
    if let [kind] = batch.types[..] {
        return vec![(batch.first, batch.last, kind)];
    }
    let mut at = batch.first;
    let alike = batch.types.chunk_by(|one, next| one == next).map(|alike| {
        let first = at;
        at += alike.len() as i64;
        (first, at - 1, alike[0])
    });
    alike.collect()
}
