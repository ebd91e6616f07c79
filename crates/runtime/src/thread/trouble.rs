//! What goes wrong in a thread, and how often it may before the application stops.
//!
//! Lost connections, expelled members and aborted transactions are worked off for as long as it takes, each with a
//! warning. A task that fails again and again, or a refusal that no retry changes, ends the application.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

use headwater_client::planted::{self, Bug};
use headwater_client::{ClientError, ErrorCode};
use headwater_streams::{TaskError, TaskId};

use super::Worker;
use crate::board::TaskStatus;
use crate::error::AppError;
use crate::external::ExternalError;
use crate::metrics::Metrics;

/// Within this time a failure counts as the same trouble.
const WINDOW: Duration = Duration::from_secs(60);
const LIMIT: usize = 3;
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

pub(super) enum Trouble {
    /// No retry helps.
    Fatal(AppError),
    Client {
        what: &'static str,
        source: ClientError,
    },
    Task {
        task: TaskId,
        source: TaskError,
    },
    /// The database of external stores.
    External(ExternalError),
}

impl Trouble {
    pub fn client(what: &'static str) -> impl Fn(ClientError) -> Self {
        move |source| Self::Client { what, source }
    }

    pub fn task(task: TaskId) -> impl Fn(TaskError) -> Self {
        move |source| Self::Task { task, source }
    }

    fn into_error(self) -> AppError {
        match self {
            Self::Fatal(error) => error,
            Self::Client { what, source } => AppError::Client { what, source },
            Self::Task { task, source } => AppError::Task { task: task.to_string(), source },
            Self::External(error) => AppError::External(error),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, source): (String, &dyn Error) = match self {
            Self::Fatal(error) => (String::new(), error),
            Self::Client { what, source } => (format!("{what}: "), source),
            Self::Task { task, source } => (format!("task {task}: "), source),
            Self::External(error) => (String::new(), error),
        };
        write!(f, "{start}{source}")?;
        let mut cause = source.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// Heals by itself, so it has no limit.
    Healing,
    /// The producer was fenced, by a successor or by the transaction's time-out.
    Fenced,
    Refused,
    Task(TaskId),
}

fn kind(trouble: &Trouble) -> Kind {
    match trouble {
        Trouble::Task { task, .. } => Kind::Task(*task),
        Trouble::Client { source, .. } if source.is_fenced() => Kind::Fenced,
        Trouble::Client { source, .. } if heals(source) => Kind::Healing,
        // Who is fenced there learns from the group whether the task is still its own.
        Trouble::External(ExternalError::Unavailable { .. } | ExternalError::Fenced { .. }) => Kind::Healing,
        Trouble::Client { .. } | Trouble::External(_) | Trouble::Fatal(_) => Kind::Refused,
    }
}

pub(super) fn heals(error: &ClientError) -> bool {
    if error.is_final() {
        // It would be refused again, in whatever transaction.
        return false;
    }
    let membership = matches!(
        error.code(),
        Some(
            ErrorCode::IllegalGeneration
                | ErrorCode::UnknownMemberId
                | ErrorCode::RebalanceInProgress
                | ErrorCode::StaleMemberEpoch
                | ErrorCode::FencedMemberEpoch
        )
    );
    let gave_up = matches!(error, ClientError::GaveUp { last, .. } if heals(last));
    error.is_retriable() || error.is_abortable() || membership || gave_up
}

/// How often transactions can time out within [`WINDOW`], and [`LIMIT`] at least: who is fenced more often has another process
/// against him, whatever the group knows.
fn most_time_outs(transaction_timeout: Duration) -> usize {
    let fit = WINDOW.as_millis() / transaction_timeout.as_millis().max(1);
    usize::try_from(fit).unwrap_or(usize::MAX).saturating_add(1).max(LIMIT)
}

/// Another process took this one's place in the group.
fn instance_is_fenced(error: &ClientError) -> bool {
    matches!(error.code(), Some(ErrorCode::FencedInstanceId | ErrorCode::UnreleasedInstanceId))
}

/// Failures of the last [`WINDOW`], by kind.
#[derive(Default)]
pub(super) struct Failures {
    seen: HashMap<Kind, Vec<Instant>>,
    in_a_row: u32,
}

impl Failures {
    /// A commit succeeded.
    pub fn healed(&mut self) {
        self.in_a_row = 0;
    }

    /// How often this kind was seen lately, this time included.
    fn count(&mut self, kind: Kind) -> usize {
        self.in_a_row = self.in_a_row.saturating_add(1);
        let seen = self.seen.entry(kind).or_default();
        seen.retain(|moment| moment.elapsed() < WINDOW);
        seen.push(Instant::now());
        seen.len()
    }

    fn pause(&self) -> Duration {
        SHORTEST_PAUSE.saturating_mul(1 << self.in_a_row.min(10).saturating_sub(1)).min(LONGEST_PAUSE)
    }
}

impl Worker {
    /// Drops all tasks, to open them again from committed state; or ends with what cannot be helped.
    pub(super) fn recover(&mut self, trouble: Trouble) -> Result<(), AppError> {
        let trouble = match self.blame_database(trouble) {
            Trouble::Fatal(error) => return Err(error),
            Trouble::Client { source, .. } if instance_is_fenced(&source) => return Err(self.fenced(source)),
            other => other,
        };
        if self.sets_aside(&trouble) || self.leaves_refused(&trouble) {
            return Ok(());
        }
        let kind = kind(&trouble);
        if planted::is(Bug::GoOnWhenFenced) && kind == Kind::Fenced {
            self.abandon_transaction();
            return self.ensure_producer().map_err(Trouble::into_error);
        }
        let count = self.failures.count(kind);
        let most_fences = most_time_outs(self.shared.config.transaction_timeout);
        let limit = match kind {
            Kind::Task(_) => self.shared.config.task_attempts.max(1),
            _ => LIMIT,
        };
        self.drop_tasks();
        self.abandon_transaction();
        Metrics::add(&self.shared.metrics.aborts, 1);
        match trouble {
            Trouble::Client { source, .. }
                if kind == Kind::Fenced && (count > most_fences || self.is_replaced()) =>
            {
                Err(self.fenced(source))
            }
            trouble if !matches!(kind, Kind::Healing | Kind::Fenced) && count >= limit => {
                Err(trouble.into_error())
            }
            trouble => {
                let pause = self.failures.pause();
                tracing::warn!(
                    application_id = self.shared.config.application_id, thread = self.index, %trouble, ?pause,
                    "uncommitted work is dropped and repeated"
                );
                self.reopen_after(pause);
                Ok(())
            }
        }
    }

    fn reopen_after(&mut self, pause: Duration) {
        for task in &self.assigned {
            self.shared.board.set_task(*task, TaskStatus::default());
        }
        let begun = Instant::now();
        while !self.shared.stopping() && begun.elapsed() < pause {
            std::thread::sleep(SHORTEST_PAUSE.min(pause));
        }
        self.open_at = (!self.assigned.is_empty()).then(Instant::now);
    }

    fn fenced(&self, source: ClientError) -> AppError {
        AppError::Fenced {
            application_id: self.shared.config.application_id.clone(),
            instance: self.shared.instance.clone(),
            source,
        }
    }

    /// Whether a successor has taken the place in the group of this member. A producer is also fenced when its
    /// transaction timed out (a suspended process, a broker away for long); then the group still knows the member. The
    /// question is asked by committing what is committed.
    fn is_replaced(&mut self) -> bool {
        let inputs: Vec<_> = self.assigned_inputs();
        let group_id = self.shared.config.application_id.clone();
        let asked = self.runtime.block_on(async {
            let committed = self.client.committed(&group_id, Some(&inputs)).await?;
            if committed.is_empty() { Ok(()) } else { self.group.commit(&committed).await }
        });
        asked.is_err_and(|error| instance_is_fenced(&error))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn kafka(code: ErrorCode) -> ClientError {
        ClientError::Kafka { what: "x".to_owned(), code, message: String::new() }
    }

    #[test]
    fn a_broker_that_is_away_again_and_again_is_not_another_process() {
        assert_eq!(most_time_outs(Duration::from_secs(10)), 7);
        assert_eq!(most_time_outs(Duration::from_secs(900)), LIMIT);
    }

    #[test]
    fn what_heals_has_no_limit_and_what_does_not_has_one() {
        let of = |source| kind(&Trouble::Client { what: "x", source });
        let gave_up =
            |last| ClientError::GaveUp { what: "x".to_owned(), after: WINDOW, last: Arc::new(last) };
        assert_eq!(of(kafka(ErrorCode::IllegalGeneration)), Kind::Healing);
        assert_eq!(of(ClientError::Abortable(Arc::new(kafka(ErrorCode::UnknownProducerId)))), Kind::Healing);
        assert_eq!(of(gave_up(kafka(ErrorCode::NotLeaderOrFollower))), Kind::Healing);
        let refused = ClientError::RecordsRefused {
            topic: "t".to_owned(),
            partition: 0,
            code: ErrorCode::InvalidRecord,
            message: String::new(),
            records: Arc::default(),
        };
        assert_eq!(of(ClientError::Abortable(Arc::new(refused))), Kind::Refused);
        assert_eq!(of(kafka(ErrorCode::ProducerFenced)), Kind::Fenced);
        assert_eq!(of(kafka(ErrorCode::TopicAuthorizationFailed)), Kind::Refused);
    }

    #[test]
    fn what_no_retry_changes_has_a_limit_within_a_transaction_too() {
        let of = |source| kind(&Trouble::Client { what: "x", source });
        let wrapped = |source| ClientError::Abortable(Arc::new(source));
        let codes = [
            ErrorCode::TopicAuthorizationFailed,
            ErrorCode::GroupAuthorizationFailed,
            ErrorCode::ClusterAuthorizationFailed,
            ErrorCode::TransactionalIdAuthorizationFailed,
            ErrorCode::InvalidTopicException,
            ErrorCode::UnsupportedVersion,
            ErrorCode::PolicyViolation,
            ErrorCode::MessageTooLarge,
        ];
        let malformed = || ClientError::Malformed { address: "a:1".to_owned(), reason: String::new() };
        let too_large = || ClientError::RecordTooLarge { topic: "t".to_owned(), size: 9, limit: 8 };
        for source in codes.map(kafka).into_iter().chain([malformed(), too_large()]) {
            assert_eq!(of(source.clone()), Kind::Refused, "{source}");
            assert_eq!(of(wrapped(source.clone())), Kind::Refused, "{source}");
            let gave_up =
                ClientError::GaveUp { what: "x".to_owned(), after: WINDOW, last: Arc::new(source.clone()) };
            assert_eq!(of(wrapped(gave_up)), Kind::Refused, "{source}");
        }
        // Of what ends with the transaction, and of a broker that stops, there is no limit.
        for code in [
            ErrorCode::OutOfOrderSequenceNumber,
            ErrorCode::TransactionAbortable,
            ErrorCode::UnknownServerError,
            ErrorCode::NotEnoughReplicas,
        ] {
            assert_eq!(of(wrapped(kafka(code))), Kind::Healing, "{code:?}");
        }
        assert_eq!(of(wrapped(ClientError::State("the send was cancelled"))), Kind::Healing);
    }

    #[test]
    fn failures_of_different_kinds_are_counted_apart_and_pauses_grow() {
        let mut failures = Failures::default();
        let task = |partition| Kind::Task(TaskId { subtopology: 0, partition });
        assert_eq!((failures.count(task(0)), failures.count(task(1)), failures.count(task(0))), (1, 1, 2));
        assert_eq!(failures.pause(), SHORTEST_PAUSE * 4);
        failures.healed();
        failures.count(Kind::Healing);
        assert_eq!(failures.pause(), SHORTEST_PAUSE);
    }
}
