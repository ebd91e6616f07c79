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
        self.outcome.poll(context).map(|outcome| {
            let base = outcome?;
            let offset = if base < 0 { -1 } else { base + i64::from(self.index) };
            Ok(Delivered { topic_partition: self.outcome.topic_partition(), offset })
        })
    }
}

/// A batch's end: its base offset, or why it failed.
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
        }
    }

    pub(crate) async fn wait(&self) -> Result<Offset, ClientError> {
        std::future::poll_fn(|context| self.poll(context)).await
    }
}
