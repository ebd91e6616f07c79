//! Redis: rows and positions in one script, which nothing comes between.
//!
//! A partition's rows are two hashes, `<table>:<partition>` (values) and `<table>:<partition>:timestamps`; what begins with
//! `headwater:` is the runtime's. A commit is refused unless the token of each of its tasks is the one that it made when it took
//! them. Rows and positions are in one entry of the append-only file, so what a crash of Redis takes back it takes back of both.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use headwater_client::Committed;
use headwater_model::TopicPartition;
use headwater_runtime::external::{Application, ExternalDatabase, ExternalError, ExternalSession, TableSize};
use headwater_streams::ExternalTable;
use redis::{Client, Connection, FromRedisValue};
use serde::{Deserialize, Serialize};

mod failure;
mod keys;
mod script;
mod session;

use failure::Failures;
use keys::{Keys, TABLES};
use session::Session;

const CONNECT: Duration = Duration::from_secs(10);
/// A server that says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A database of a Redis server (tested with 7).
pub struct Redis {
    client: Client,
    failures: Failures,
}

/// What is noted of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Noted {
    application_id: String,
    store: String,
    table: ExternalTable,
}

impl Redis {
    /// `redis://user:password@host:port/number`.
    pub fn new(url: &str) -> Result<Self, ExternalError> {
        let refused = |message: String| {
            let advice =
                "write redis://:password@host:port/number, with % codes for what has a meaning in URLs";
            Failures::new("Redis".to_owned()).refused("read its URL", &message, advice)
        };
        let parsed = url::Url::parse(url).map_err(|error| refused(error.to_string()))?;
        let (host, port) = (parsed.host_str().unwrap_or("localhost"), parsed.port().unwrap_or(6379));
        let number = parsed.path().trim_matches('/');
        let number = if number.is_empty() { "0" } else { number };
        let failures = Failures::new(format!("Redis database {number} at {host}:{port}"));
        let client = Client::open(url).map_err(|error| refused(error.to_string()))?;
        Ok(Self { client, failures })
    }

    fn connect(&self) -> Result<Link, ExternalError> {
        let failed = |error| self.failures.of("connect", &error);
        let connection = self.client.get_connection_with_timeout(CONNECT).map_err(failed)?;
        connection.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        connection.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        Ok(Link { connection, failures: self.failures.clone() })
    }
}

/// A connection, and how its errors are told.
struct Link {
    connection: Connection,
    failures: Failures,
}

impl Link {
    fn ask<T: FromRedisValue>(&mut self, what: &str, command: &redis::Cmd) -> Result<T, ExternalError> {
        command.query(&mut self.connection).map_err(|error| self.failures.of(what, &error))
    }

    fn ask_all<T: FromRedisValue>(&mut self, what: &str, pipe: &redis::Pipeline) -> Result<T, ExternalError> {
        pipe.query(&mut self.connection).map_err(|error| self.failures.of(what, &error))
    }

    /// A server that throws keys away when it is full would lose rows and not their positions.
    fn check_eviction(&mut self) -> Result<(), ExternalError> {
        let what = "see what it does when it is full";
        let told: String = self.ask(what, redis::cmd("INFO").arg("memory"))?;
        let policy = told.lines().find_map(|line| line.trim().strip_prefix("maxmemory_policy:"));
        match policy {
            None | Some("noeviction") => Ok(()),
            Some(policy) => Err(self.failures.refused(
                what,
                &format!("its maxmemory-policy is {policy}: rows could go, and their positions stay"),
                "set maxmemory-policy noeviction, or use a server that is not a cache",
            )),
        }
    }

    /// A table is one store's, with the same columns.
    fn claim(&mut self, noted: &Noted) -> Result<(), ExternalError> {
        let Noted { store, table, .. } = noted;
        let what = format!("keep store {store:?} in table {}", table.name);
        let text = serde_json::to_string(noted).unwrap_or_default();
        let mut claim = redis::pipe();
        claim.cmd("HSETNX").arg(TABLES).arg(&table.name).arg(text).ignore();
        claim.cmd("HGET").arg(TABLES).arg(&table.name);
        let (found,): (String,) = self.ask_all(&what, &claim)?;
        let known: Option<Noted> = serde_json::from_str(&found).ok();
        if known.as_ref() == Some(noted) {
            return Ok(());
        }
        let (message, advice) = match known {
            Some(known) if known.application_id == noted.application_id && known.store == noted.store => (
                format!("it has columns {:?} and {:?}", known.table.key, known.table.value),
                "name another table for other columns",
            ),
            Some(known) => (
                format!("it is store {:?} of application {:?}", known.store, known.application_id),
                "name another table; or, if that one is gone for good, delete its keys and HDEL headwater:tables of it",
            ),
            None => {
                (format!("what is noted of it cannot be read: {found:?}"), "see HGETALL headwater:tables")
            }
        };
        Err(self.failures.refused(&what, &message, advice))
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.failures.database())
    }
}

impl ExternalDatabase for Redis {
    fn name(&self) -> String {
        self.failures.database().to_owned()
    }

    fn durability(&self) -> String {
        "rows and positions are in one script: what Redis had not written when it died (with appendonly yes a second at most, without it all since the last snapshot) goes back together, and the input is processed again from there".to_owned()
    }

    fn open(&self, application: &Application) -> Result<Box<dyn ExternalSession>, ExternalError> {
        let mut link = self.connect()?;
        link.check_eviction()?;
        for (store, table) in &application.stores {
            let noted =
                Noted { application_id: application.id.clone(), store: store.clone(), table: table.clone() };
            link.claim(&noted)?;
        }
        Ok(Box::new(Session::new(link, Keys::new(&application.id))))
    }

    fn sizes(&self, application_id: &str) -> Result<Vec<TableSize>, ExternalError> {
        let what = "see how large the stores are";
        let mut link = self.connect()?;
        let noted: HashMap<String, String> = link.ask(what, redis::cmd("HGETALL").arg(TABLES))?;
        let keys: Vec<String> =
            link.ask(what, redis::cmd("SMEMBERS").arg(Keys::new(application_id).rows()))?;
        let mut sizes = Vec::new();
        let noted = noted.values().filter_map(|text| serde_json::from_str::<Noted>(text).ok());
        for Noted { store, table, .. } in noted.filter(|noted| noted.application_id == application_id) {
            let own = format!("{}:", table.name);
            let mut bytes = 0;
            for key in keys.iter().filter(|key| key.starts_with(&own)) {
                let used: Option<u64> = link.ask(what, redis::cmd("MEMORY").arg("USAGE").arg(key))?;
                bytes += used.unwrap_or(0);
            }
            let (reserved_bytes, used_bytes) = (bytes, Some(bytes));
            sizes.push(TableSize { store, table: table.name, reserved_bytes, used_bytes });
        }
        sizes.sort_by(|one, other| one.store.cmp(&other.store));
        Ok(sizes)
    }

    fn positions(&self, application_id: &str) -> Result<HashMap<TopicPartition, Committed>, ExternalError> {
        session::positions(&mut self.connect()?, &Keys::new(application_id))
    }

    fn reset(
        &self,
        application_id: &str,
        positions: &HashMap<TopicPartition, Committed>,
    ) -> Result<(), ExternalError> {
        session::reset(&mut self.connect()?, &Keys::new(application_id), positions)
    }
}
