//! Why a question about state has no answer (KIP-796's `FailureReason`, and what comes before it).

use std::collections::BTreeMap;

use super::ask::{Part, Place, QueryResultInfo, Told};
use super::position::Position;
use serde_json::Value;

/// Why a question about state has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateQueryError {
    #[error(
        "no store {store:?} can be queried (its Materialized needs .json()); these can: {}",
        known.join(", ")
    )]
    UnknownStore { store: String, known: Vec<String> },
    /// What is asked does not fit the store, or cannot be read.
    #[error("{detail}")]
    Refused { detail: String },
    /// Nobody can answer now: during a rebalance, while an instance is away, or because those who could are further
    /// behind than was asked for. To be asked again.
    #[error("{detail}")]
    Unavailable { detail: String },
    /// The state had not seen the position within the time. To be asked again.
    #[error("{detail}")]
    NotYet { detail: String, seen: Position },
    /// A store could not be read.
    #[error("{detail}")]
    Failed { detail: String },
    /// An answer is not of the type that was asked for.
    #[error("read rows of store {store:?}: {detail}; use the types of its keys and values")]
    Unreadable { store: String, detail: String },
    /// No instance could be asked.
    #[error("ask an instance of {group:?}: {detail}")]
    Unreachable { group: String, detail: String },
    #[error("the application has stopped")]
    Stopped,
}

impl StateQueryError {
    /// Whether the same question may have an answer soon.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::NotYet { .. } | Self::Unreachable { .. })
    }
}

/// All rows of an answer, in order.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    pub rows: Vec<Value>,
    pub next: Option<Place>,
    pub infos: BTreeMap<String, QueryResultInfo>,
}

impl Merged {
    pub fn position(&self) -> Position {
        self.infos.values().fold(Position::empty(), |all, info| all.merge(&info.position))
    }

    /// Puts the parts together; where one is missing there is no answer.
    pub fn of(told: Told, limit: usize) -> Result<Self, StateQueryError> {
        let mut merged = Self::default();
        let (mut all, mut more) = (Vec::new(), false);
        let mut failures = Vec::new();
        for (task, part) in told.parts {
            match part {
                Part::Rows { rows, more: cut, info } => {
                    all.extend(rows);
                    more |= cut;
                    merged.infos.insert(task, info);
                }
                Part::Refused { detail } => return Err(StateQueryError::Refused { detail }),
                Part::Failed { detail } => failures.push((0, StateQueryError::Failed { detail })),
                Part::Unavailable { detail } => failures.push((1, StateQueryError::Unavailable { detail })),
                Part::NotYet { detail, seen } => failures.push((2, StateQueryError::NotYet { detail, seen })),
            }
        }
        if let Some((_, worst)) = failures.into_iter().min_by_key(|(rank, _)| *rank) {
            return Err(worst);
        }
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        more |= all.len() > limit;
        all.truncate(limit);
        merged.next = all.last().filter(|_| more).map(|(place, _)| place.clone());
        merged.rows = all.into_iter().map(|(_, row)| row).collect();
        Ok(merged)
    }
}

#[cfg(test)]
mod tests {
    use headwater_model::Bytes;
    use serde_json::json;

    use super::super::ask::Role;
    use super::*;

    fn rows(places: &[&'static str], more: bool) -> Part {
        let row = |place: &&'static str| (Place(Bytes::from_static(place.as_bytes())), json!(place));
        let info = QueryResultInfo {
            host: None,
            role: Role::Active,
            lag: None,
            staleness_ms: None,
            position: Position::empty(),
        };
        Part::Rows { rows: places.iter().map(row).collect(), more, info }
    }

    fn told(parts: Vec<Part>) -> Told {
        Told { parts: parts.into_iter().enumerate().map(|(n, part)| (format!("0_{n}"), part)).collect() }
    }

    #[test]
    fn parts_are_put_in_order_and_cut_at_the_limit() {
        let parts = || told(vec![rows(&["a", "d"], false), rows(&["b", "c"], true)]);
        let merged = Merged::of(parts(), 2).unwrap();
        assert_eq!(merged.rows, ["a", "b"]);
        assert_eq!(merged.next, Some(Place(Bytes::from_static(b"b"))));
        let all = Merged::of(told(vec![rows(&["a", "d"], false), rows(&["b"], false)]), 3).unwrap();
        assert_eq!((all.rows.len(), all.next), (3, None));
    }

    #[test]
    fn a_part_that_is_missing_leaves_no_answer() {
        let away = Part::Unavailable { detail: "away".to_owned() };
        let wrong = Part::Refused { detail: "wrong".to_owned() };
        let error = |parts| Merged::of(told(parts), 9).unwrap_err();
        assert!(error(vec![rows(&["a"], false), away.clone()]).is_retriable());
        assert!(!error(vec![away, rows(&[], false), wrong]).is_retriable());
    }
}
