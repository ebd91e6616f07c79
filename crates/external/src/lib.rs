//! Databases in which the streams runtime keeps stores, with the positions of the inputs in the same transaction.
//!
//! Owns the drivers, PostgreSQL and Redis, of `headwater_runtime::external`'s traits, and the names and shapes of what is there.
//! Invariant: whatever commits rows commits the positions that they are from, and is refused unless it took the task last.
//!
//! ```no_run
//! # use headwater_runtime::{AppConfig, StreamsApp};
//! # use headwater_streams::Topology;
//! # async fn start(topology: Topology) -> Result<StreamsApp, Box<dyn std::error::Error>> {
//! let mut config = AppConfig::new("127.0.0.1:9092", "stock");
//! config.external = Some(headwater_external::open("postgres://stock@127.0.0.1/shop")?);
//! # Ok(StreamsApp::start(topology, config).await?)
//! # }
//! ```
//!
//! Absent: TLS to Redis (use it on the same machine, a private network or through a tunnel), certificates of clients, Redis
//! Cluster, and a change of a table's columns.

mod column;
mod postgres;
mod redis;

use headwater_runtime::external::{External, ExternalError};

pub use postgres::Postgres;
pub use redis::Redis;

/// Names the database of [`from_environment`].
pub const VARIABLE: &str = "HEADWATER_EXTERNAL";

/// The database at `postgres://user:password@host:port/database` or `redis://:password@host:port/number`. Nothing is connected
/// yet.
pub fn open(url: &str) -> Result<External, ExternalError> {
    match url.split_once("://").map(|(scheme, _)| scheme) {
        Some("postgres" | "postgresql") => Ok(External::new(Postgres::new(url)?)),
        Some("redis") => Ok(External::new(Redis::new(url)?)),
        scheme => Err(ExternalError::Refused {
            database: "a database".to_owned(),
            what: "keep stores".to_owned(),
            message: format!("its URL begins with {:?}", scheme.unwrap_or_default()),
            advice: "use postgres://user@host/database or redis://host".to_owned(),
        }),
    }
}

/// The database that `HEADWATER_EXTERNAL` names; `None` if it is not set.
pub fn from_environment() -> Result<Option<External>, ExternalError> {
    std::env::var(VARIABLE).ok().filter(|url| !url.is_empty()).map(|url| open(&url)).transpose()
}
