//! What became of a record: one shared outcome for each batch, and a place in it for each record.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use headwater_model::{Offset, TopicPartition};

use crate::ClientError;

/// Where the broker has put a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    pub topic_partition: TopicPartition,
    /// -1 when the broker recognized a repetition whose offset it no longer knew.
    pub offset: Offset,
}

/// Resolves when the record is acknowledged or has failed. Dropping it is fine: failures still fail
/// `flush` and `commit_transaction`.
#[derive(Debug)]
#[must_use = "a failure shows here, or in flush"]
pub struct Delivery {
    outcome: Arc<Outcome>,
    index: i32,
}

impl Delivery {
    pub(super) fn new(outcome: Arc<Outcome>, index: i32) -> Self {
        Self { outcome, index }
    }
}

impl Future for Delivery {
    type Output = Result<Delivered, ClientError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (outcome, index) = Outcome::of(Arc::clone(&self.outcome), self.index);
        outcome.poll(context).map(|ended| {
            let base = ended?;
            let offset = if base < 0 { -1 } else { base + i64::from(index) };
            Ok(Delivered { topic_partition: outcome.topic_partition(), offset })
        })
    }
}

/// A batch's end: its base offset, or why it failed; or the batches it was split into, each with its own.
#[derive(Debug)]
pub(crate) struct Outcome {
    topic: Arc<str>,
    partition: i32,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Pending(Vec<Waker>),
    Done(Result<Offset, ClientError>),
    /// The index of each part's first record, and its end.
    Split([(i32, Arc<Outcome>); 2]),
}

impl Outcome {
    pub(super) fn new(topic: Arc<str>, partition: i32) -> Arc<Self> {
        Arc::new(Self { topic, partition, state: Mutex::new(State::Pending(Vec::new())) })
    }

    pub(super) fn topic_partition(&self) -> TopicPartition {
        TopicPartition::new(&*self.topic, self.partition)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The batch is too large for its topic: its records from `second` on have an end of their own.
    pub(super) fn split(&self, second: i32) -> [Arc<Self>; 2] {
        let parts = [0, second].map(|_| Self::new(Arc::clone(&self.topic), self.partition));
        let split = State::Split([(0, Arc::clone(&parts[0])), (second, Arc::clone(&parts[1]))]);
        let before = std::mem::replace(&mut *self.lock(), split);
        // Whoever waits must wait for the parts from now on.
        if let State::Pending(wakers) = before {
            wakers.into_iter().for_each(Waker::wake);
        }
        parts
    }

    /// The end that counts for a record, and the record's index there.
    fn of(mut outcome: Arc<Self>, mut index: i32) -> (Arc<Self>, i32) {
        loop {
            let part = match &*outcome.lock() {
                State::Split([_, (second, part)]) if index >= *second => (Arc::clone(part), index - second),
                State::Split([(_, part), _]) => (Arc::clone(part), index),
                State::Pending(_) | State::Done(_) => break,
            };
            (outcome, index) = part;
        }
        (outcome, index)
    }

    /// The first end counts.
    pub(super) fn end(&self, with: Result<Offset, ClientError>) {
        let mut state = self.lock();
        let State::Pending(wakers) = &mut *state else { return };
        let wakers = std::mem::take(wakers);
        *state = State::Done(with);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn poll(&self, context: &Context<'_>) -> Poll<Result<Offset, ClientError>> {
        match &mut *self.lock() {
            State::Done(outcome) => Poll::Ready(outcome.clone()),
            State::Pending(wakers) => {
                if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                    wakers.push(context.waker().clone());
                }
                Poll::Pending
            }
            State::Split([(_, first), (_, second)]) => {
                let (first, second) = (first.poll(context), second.poll(context));
                match (first, second) {
                    (Poll::Ready(first), Poll::Ready(second)) => {
                        Poll::Ready(first.and_then(|offset| second.map(|_| offset)))
                    }
                    _ => Poll::Pending,
                }
            }
        }
    }

    /// Waits for the batch, or for all that it was split into: the first failure counts.
    pub(crate) async fn wait(&self) -> Result<Offset, ClientError> {
        std::future::poll_fn(|context| self.poll(context)).await
    }
}
