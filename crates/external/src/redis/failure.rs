//! What Redis' errors mean for who asked.

use headwater_runtime::external::ExternalError;
use redis::RedisError;

/// Errors of one database.
#[derive(Debug, Clone)]
pub(super) struct Failures {
    database: String,
}

/// By the word that an error begins with: what passes by itself.
const HEALING: [&str; 9] =
    ["LOADING", "BUSY", "TRYAGAIN", "MASTERDOWN", "READONLY", "MISCONF", "NOREPLICAS", "OOM", "CLUSTERDOWN"];
const STRANGERS: [&str; 3] = ["NOAUTH", "WRONGPASS", "NOPERM"];

impl Failures {
    pub fn new(database: String) -> Self {
        Self { database }
    }

    pub fn database(&self) -> &str {
        &self.database
    }

    pub fn of(&self, what: &str, error: &RedisError) -> ExternalError {
        let code = error.code().unwrap_or_default();
        let text = error.to_string();
        let says = |words: &[&str]| words.iter().any(|word| code == *word || text.contains(word));
        if says(&STRANGERS) || text.to_lowercase().contains("authentication failed") {
            let advice = "see the user and the password in its URL (HEADWATER_EXTERNAL), and ACL LIST";
            return self.refused(what, &text, advice);
        }
        if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() || says(&HEALING) {
            return ExternalError::Unavailable {
                database: self.database.clone(),
                what: what.to_owned(),
                message: text,
            };
        }
        self.refused(
            what,
            &text,
            "see the server's log, and whether something else uses the keys that it names",
        )
    }

    pub fn refused(&self, what: &str, message: &str, advice: &str) -> ExternalError {
        ExternalError::Refused {
            database: self.database.clone(),
            what: what.to_owned(),
            message: message.to_owned(),
            advice: advice.to_owned(),
        }
    }
}
