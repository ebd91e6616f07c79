//! A connection, asked from a thread that waits; statements are prepared once.

use std::collections::HashMap;
use std::time::Duration;

use headwater_runtime::external::ExternalError;
use tokio::runtime::Handle;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Error, NoTls, Row, Socket, Statement};

use super::failure::Failures;
use super::tls::Tls;

/// A server that says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(10);

pub(super) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

pub(super) struct Link {
    runtime: Handle,
    client: Client,
    prepared: HashMap<String, Statement>,
    pub failures: Failures,
}

impl Link {
    pub fn connect(config: &Config, tls: Option<&Tls>, failures: &Failures) -> Result<Self, ExternalError> {
        let mut config = config.clone();
        config.connect_timeout(CONNECT).application_name("headwater");
        match tls {
            Some(tls) => Self::connect_by(&config, tls.clone(), failures),
            None => Self::connect_by(&config, NoTls, failures),
        }
    }

    fn connect_by<T>(config: &Config, tls: T, failures: &Failures) -> Result<Self, ExternalError>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
    {
        let runtime = Handle::current();
        let connected = wait(&runtime, CONNECT * 2, config.connect(tls));
        let (client, connection) = match connected {
            Some(Ok(connected)) => connected,
            Some(Err(error)) => return Err(failures.of("connect", &error)),
            None => {
                return Err(failures.unavailable("connect", format!("no answer within {:?}", CONNECT * 2)));
            }
        };
        runtime.spawn(async move {
            // Whoever waits for an answer is told, too.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to PostgreSQL ended");
            }
        });
        Ok(Self { runtime, client, prepared: HashMap::new(), failures: failures.clone() })
    }

    /// Who hangs in a transaction, or waits for one that does, gives up.
    pub fn set_patience(&mut self, patience: Duration) -> Result<(), ExternalError> {
        let ms = patience.as_millis();
        self.run(
            "set how long to wait",
            &format!("SET idle_in_transaction_session_timeout = {ms}; SET lock_timeout = {ms}"),
        )
    }

    fn answered<T>(&self, what: &str, answer: Option<Result<T, Error>>) -> Result<T, ExternalError> {
        match answer {
            Some(Ok(done)) => Ok(done),
            Some(Err(error)) => Err(self.failures.of(what, &error)),
            None => Err(self.failures.unavailable(what, format!("no answer within {PATIENCE:?}"))),
        }
    }

    /// Statements without parameters.
    pub fn run(&mut self, what: &str, sql: &str) -> Result<(), ExternalError> {
        let answer = wait(&self.runtime, PATIENCE, self.client.batch_execute(sql));
        self.answered(what, answer)
    }

    fn prepare(&mut self, what: &str, sql: &str) -> Result<Statement, ExternalError> {
        if let Some(known) = self.prepared.get(sql) {
            return Ok(known.clone());
        }
        let answer = wait(&self.runtime, PATIENCE, self.client.prepare(sql));
        let statement = self.answered(what, answer)?;
        self.prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    pub fn ask(&mut self, what: &str, sql: &str, with: Parameters<'_>) -> Result<Vec<Row>, ExternalError> {
        let statement = self.prepare(what, sql)?;
        let answer = wait(&self.runtime, PATIENCE, self.client.query(&statement, with));
        self.answered(what, answer)
    }

    /// Begins a transaction and asks in it, in one round trip.
    pub fn begin_and_ask(
        &mut self,
        what: &str,
        sql: &str,
        with: Parameters<'_>,
    ) -> Result<Vec<Row>, ExternalError> {
        let statement = self.prepare(what, sql)?;
        let both = async {
            tokio::try_join!(self.client.batch_execute("BEGIN"), self.client.query(&statement, with))
        };
        let answer = wait(&self.runtime, PATIENCE, both);
        Ok(self.answered(what, answer)?.1)
    }

    /// Ends the transaction. One in which something had failed would be rolled back without an error: who calls this has seen
    /// none.
    pub fn commit(&mut self) -> Result<(), ExternalError> {
        self.run("commit", "COMMIT")
    }
}

fn wait<T>(runtime: &Handle, at_most: Duration, answer: impl Future<Output = T>) -> Option<T> {
    runtime.block_on(async { tokio::time::timeout(at_most, answer).await.ok() })
}
