//! PostgreSQL: rows and positions in one transaction.
//!
//! | table | has |
//! |---|---|
//! | `headwater_stores` | which table is which application's store |
//! | `headwater_tasks` | by application and task: its epoch, and who took it |
//! | `headwater_positions` | by application, topic and partition: where the stores are |
//!
//! A commit locks the rows of its tasks in `headwater_tasks`, and goes on only if their epochs are those that it took. Whoever
//! takes a task raises its epoch, and waits for that lock: it sees all of the commit before, or the commit is refused.

use std::collections::HashMap;
use std::fmt;

use headwater_client::Committed;
use headwater_model::TopicPartition;
use headwater_runtime::external::{Application, ExternalDatabase, ExternalError, ExternalSession, TableSize};
use tokio_postgres::Config;

mod failure;
mod link;
mod rows;
mod schema;
mod session;
mod tls;

use failure::Failures;
use link::Link;
use session::Session;
use tls::Tls;

/// A database of a PostgreSQL server (tested with 15).
pub struct Postgres {
    config: Config,
    /// Set where the URL asks for it.
    tls: Option<Tls>,
    failures: Failures,
}

impl Postgres {
    /// `postgres://user:password@host:port/database`. `?sslmode=verify-full` asks for TLS, with the machine's authorities or those of
    /// `sslrootcert=file`; `options=-c%20search_path%3Dname` chooses a schema.
    pub fn new(url: &str) -> Result<Self, ExternalError> {
        let unreadable = |message: String| {
            let advice = "write postgres://user:password@host:port/database, with % codes for what has a meaning in URLs";
            Failures::new("PostgreSQL".to_owned()).refused("read its URL", &message, advice)
        };
        let Asked { url, tls, authorities } = asked(url).map_err(|error| unreadable(error.to_string()))?;
        let parsed: Result<Config, _> = url.parse();
        let mut config = parsed.map_err(|error| unreadable(failure::chain(&error)))?;
        let failures = Failures::new(name(&config));
        let tls = match tls {
            false => None,
            true => {
                config.ssl_mode(tokio_postgres::config::SslMode::Require);
                let advice = "name a PEM file of the authorities in sslrootcert";
                let made = Tls::new(authorities.as_deref());
                Some(made.map_err(|message| failures.refused("prepare TLS", &message, advice))?)
            }
        };
        Ok(Self { config, tls, failures })
    }

    fn connect(&self) -> Result<Link, ExternalError> {
        Link::connect(&self.config, self.tls.as_ref(), &self.failures)
    }
}

/// A URL without what the driver's parser does not know.
struct Asked {
    url: String,
    tls: bool,
    authorities: Option<String>,
}

/// The server's certificate is always looked at, so whoever wants TLS gets `verify-full`.
fn asked(url: &str) -> Result<Asked, url::ParseError> {
    // As it is where there is nothing to take out: hosts may be several, which other URLs do not have.
    if !url.contains("ssl") {
        return Ok(Asked { url: url.to_owned(), tls: false, authorities: None });
    }
    let mut parsed = url::Url::parse(url)?;
    let pairs: Vec<(String, String)> = parsed.query_pairs().into_owned().collect();
    let find = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let (mode, authorities) = (find("sslmode"), find("sslrootcert"));
    let rest = pairs.iter().filter(|(key, _)| key != "sslmode" && key != "sslrootcert");
    // Spaces as %20, which is all that the parser knows.
    let rest: Vec<String> = rest.map(|(key, value)| format!("{key}={}", escaped(value))).collect();
    parsed.set_query((!rest.is_empty()).then(|| rest.join("&")).as_deref());
    let tls = !matches!(mode.as_deref(), None | Some("disable" | "allow" | "prefer"));
    Ok(Asked { url: parsed.to_string(), tls, authorities })
}

fn escaped(value: &str) -> String {
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    value
        .bytes()
        .map(|byte| if kept(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// `PostgreSQL database shop at db:5432`.
fn name(config: &Config) -> String {
    let hosts = config.get_hosts().iter().map(|host| match host {
        tokio_postgres::config::Host::Tcp(host) => host.clone(),
        #[cfg(unix)]
        tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
    });
    let hosts: Vec<String> = hosts.collect();
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let database = config.get_dbname().or(config.get_user()).unwrap_or("of the user");
    format!("PostgreSQL database {database} at {}:{port}", hosts.join(","))
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.failures.database())
    }
}

impl ExternalDatabase for Postgres {
    fn name(&self) -> String {
        self.failures.database().to_owned()
    }

    fn durability(&self) -> String {
        "rows and positions are in one transaction, so they are as durable as the server's transactions are (fsync, synchronous_commit), and never apart".to_owned()
    }

    fn open(&self, application: &Application) -> Result<Box<dyn ExternalSession>, ExternalError> {
        let mut link = self.connect()?;
        link.set_patience(application.patience)?;
        schema::prepare(&mut link, application)?;
        Ok(Box::new(Session::new(link, application.id.clone())))
    }

    fn sizes(&self, application_id: &str) -> Result<Vec<TableSize>, ExternalError> {
        schema::sizes(&mut self.connect()?, application_id)
    }

    fn positions(&self, application_id: &str) -> Result<HashMap<TopicPartition, Committed>, ExternalError> {
        session::positions(&mut self.connect()?, application_id, None)
    }

    fn reset(
        &self,
        application_id: &str,
        positions: &HashMap<TopicPartition, Committed>,
    ) -> Result<(), ExternalError> {
        session::reset(&mut self.connect()?, application_id, positions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_for_tls_is_taken_out_of_the_url_and_the_rest_stays() {
        let plain = "postgres://u:p%40@host/db?options=-c%20search_path%3Dx";
        let of = |more: &str| {
            asked(&format!("{plain}{more}")).map(|asked| (asked.url, asked.tls, asked.authorities))
        };
        assert_eq!(of(""), Ok((plain.to_owned(), false, None)));
        assert_eq!(of("&sslmode=prefer"), Ok((plain.to_owned(), false, None)));
        assert_eq!(of("&sslmode=require"), Ok((plain.to_owned(), true, None)));
        let file = Some("/a b.pem".to_owned());
        assert_eq!(of("&sslmode=verify-full&sslrootcert=/a%20b.pem"), Ok((plain.to_owned(), true, file)));
    }
}
