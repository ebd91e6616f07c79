//! What a request asks of a store: rows by key, time or both, and what may answer.

use axum::extract::Query as Parameters;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use headwater_streams::{
    KeyQuery, MultiVersionedKeyQuery, Query, RangeQuery, SessionQuery, StoreKind, VersionedKeyQuery,
    WindowRangeQuery,
};
use serde::Deserialize;

use super::problem::Problem;
use crate::queries::Staleness;
use crate::queries::ask::Ask;

/// Rows returned unless `limit` says otherwise.
const DEFAULT_LIMIT: usize = 1000;
const LARGEST_LIMIT: usize = 100_000;
/// How long a question with a position waits unless `timeout` says otherwise; one without does not wait.
const POSITION_TIMEOUT_MS: u64 = 1000;
const LONGEST_TIMEOUT_MS: u64 = 60_000;

/// The parameters of a question.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    key: Option<String>,
    as_of: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
    max_lag: Option<u64>,
    max_staleness: Option<String>,
    position: Option<String>,
    timeout: Option<String>,
}

pub(super) type Extracted = Result<Parameters<Wanted>, QueryRejection>;

impl Wanted {
    pub fn of(extracted: Extracted) -> Result<Self, Problem> {
        extracted.map(|Parameters(wanted)| wanted).map_err(|error| {
            Problem::bad(format!(
                "{error}; use from, to, key, limit and after, as_of of stores that keep versions, and max_lag, \
                 max_staleness, position and timeout"
            ))
        })
    }

    /// Rows of a store, by whatever its kind allows.
    pub fn rows(mut self, store: &str, kind: StoreKind) -> Result<Ask, Problem> {
        if let Some(key) = self.key.take() {
            return self.of_key(store, key, kind).map(|(ask, _)| ask);
        }
        if self.as_of.is_some() {
            return Err(Problem::bad("as_of is for one key: /stores/{store}/key/{key}?as_of=…"));
        }
        let limit = self.limit();
        let query = match kind {
            StoreKind::KeyValue | StoreKind::Versioned => {
                Query::Range(RangeQuery { from: self.from.take(), to: self.to.take(), limit })
            }
            StoreKind::Window | StoreKind::Session => self.in_time(None, kind)?,
        };
        self.ask(store, query)
    }

    /// Rows of one key, and whether there may be several.
    pub fn of_key(mut self, store: &str, key: String, kind: StoreKind) -> Result<(Ask, bool), Problem> {
        if self.key.is_some() {
            return Err(Problem::bad("the key is in the path; leave out the parameter key"));
        }
        let several =
            self.from.is_some() || self.to.is_some() || self.limit.is_some() || self.after.is_some();
        let as_of = self.as_of.take();
        let (query, many) = match (kind, as_of) {
            (StoreKind::Versioned, Some(_)) if several => {
                return Err(Problem::bad("use as_of, or from, to, limit and after"));
            }
            (StoreKind::Versioned, None) if several => {
                let limit = self.limit();
                let (from, to) = self.times()?;
                (Query::MultiVersionedKey(MultiVersionedKeyQuery { key, from, to, limit }), true)
            }
            (StoreKind::Versioned, as_of) => {
                let as_of = as_of.as_deref().map(timestamp).transpose()?;
                (Query::VersionedKey(VersionedKeyQuery { key, as_of }), false)
            }
            (_, Some(_)) => return Err(Problem::bad("as_of is for stores that keep versions")),
            (StoreKind::KeyValue, None) if several => {
                return Err(Problem::bad(
                    "a key has one row in this store: from, to, limit and after are for windows, sessions and versions",
                ));
            }
            (StoreKind::KeyValue, None) => (Query::Key(KeyQuery { key }), false),
            (StoreKind::Window | StoreKind::Session, None) => (self.in_time(Some(key), kind)?, true),
        };
        Ok((self.ask(store, query)?, many))
    }

    fn in_time(&self, key: Option<String>, kind: StoreKind) -> Result<Query, Problem> {
        let limit = self.limit();
        let (from, to) = self.times()?;
        Ok(match kind {
            StoreKind::Session => Query::Session(SessionQuery { key, from, to, limit }),
            _ => Query::WindowRange(WindowRangeQuery { key, from, to, limit }),
        })
    }

    fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIMIT).min(LARGEST_LIMIT)
    }

    fn times(&self) -> Result<(i64, i64), Problem> {
        let time = |text: &Option<String>, otherwise| text.as_deref().map_or(Ok(otherwise), timestamp);
        Ok((time(&self.from, 0)?, time(&self.to, i64::MAX)?))
    }

    fn ask(self, store: &str, query: Query) -> Result<Ask, Problem> {
        if self.limit == Some(0) {
            return Err(Problem::bad("limit is 0: use at least 1"));
        }
        let after = self.after.map(|after| after.parse()).transpose().map_err(Problem::bad)?;
        let position = self.position.as_deref().unwrap_or_default().parse::<crate::queries::Position>();
        let position = position.map_err(|error| Problem::bad(error.to_string()))?;
        let by_default = if position.is_empty() { 0 } else { POSITION_TIMEOUT_MS };
        let timeout_ms = self.timeout.as_deref().map_or(Ok(by_default), milliseconds)?;
        let max_staleness_ms = self.max_staleness.as_deref().map(milliseconds).transpose()?;
        Ok(Ask {
            store: store.to_owned(),
            query,
            tasks: None,
            after,
            staleness: Staleness { max_lag: self.max_lag, max_staleness_ms },
            position,
            timeout_ms: timeout_ms.min(LONGEST_TIMEOUT_MS),
        })
    }
}

/// Milliseconds since 1970, or a moment as RFC 3339 writes it.
fn timestamp(text: &str) -> Result<i64, Problem> {
    if let Ok(ms) = text.parse::<i64>() {
        return Ok(ms.max(0));
    }
    let moment: Result<jiff::Timestamp, _> = text.parse();
    moment.map(|moment| moment.as_millisecond().max(0)).map_err(|error| {
        let detail = format!("{text:?} is no time ({error}); use 1370044800000 or 2013-06-01T00:00:00Z");
        Problem::new(StatusCode::BAD_REQUEST, "bad time", detail)
    })
}

/// How long: `500ms`, `5s`, `2m`, or milliseconds.
fn milliseconds(text: &str) -> Result<u64, Problem> {
    if let Ok(ms) = text.parse::<u64>() {
        return Ok(ms);
    }
    let span = text.parse::<jiff::SignedDuration>().ok();
    let ms = span.and_then(|span| u64::try_from(span.as_millis()).ok());
    ms.ok_or_else(|| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "bad time",
            format!("{text:?} is no duration; use 500ms, 5s or 2m"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_or_are_milliseconds() {
        let read = |text| milliseconds(text).ok();
        assert_eq!(["250", "250ms", "5s", "2m"].map(read), [Some(250), Some(250), Some(5000), Some(120_000)]);
        assert_eq!(["", "-5s", "soon", "5 parsecs"].map(read), [None; 4]);
    }

    #[test]
    fn a_position_is_waited_for_and_nothing_else_is() {
        let ask = |wanted: Wanted| wanted.rows("s", StoreKind::KeyValue).ok().map(|ask| ask.timeout_ms);
        let position = || Some("orders:0:1".to_owned());
        assert_eq!(ask(Wanted::default()), Some(0));
        assert_eq!(ask(Wanted { position: position(), ..Wanted::default() }), Some(POSITION_TIMEOUT_MS));
        let long = Wanted { position: position(), timeout: Some("2h".to_owned()), ..Wanted::default() };
        assert_eq!(ask(long), Some(LONGEST_TIMEOUT_MS));
        assert_eq!(ask(Wanted { position: Some("orders".to_owned()), ..Wanted::default() }), None);
    }
}
