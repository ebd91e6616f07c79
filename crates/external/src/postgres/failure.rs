//! What PostgreSQL's errors mean for who asked: whether trying again helps, and what to do if not.

use std::error::Error as _;

use headwater_runtime::external::ExternalError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// Errors of one database.
#[derive(Debug, Clone)]
pub(super) struct Failures {
    database: String,
}

/// An error and what caused it.
pub(super) fn chain(error: &Error) -> String {
    if let Some(error) = error.as_db_error() {
        let detail = error.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
        return format!("{}{detail} [{}]", error.message(), error.code().code());
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// By the code, or its class (its first two characters).
fn heals(code: &str) -> bool {
    let classes = ["08", "40", "53", "57", "58"];
    // A lock that was not had, a transaction that was idle for too long, and a server that follows another.
    let codes = ["55P03", "25P03", "25006"];
    classes.iter().any(|class| code.starts_with(class)) || codes.contains(&code)
}

fn advice(code: &SqlState) -> &'static str {
    match *code {
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            "see user and password in its URL (HEADWATER_EXTERNAL), and the server's pg_hba.conf"
        }
        SqlState::UNDEFINED_DATABASE => "create it (createdb), or name another in its URL",
        SqlState::INSUFFICIENT_PRIVILEGE => {
            "let the user do it (GRANT CREATE ON SCHEMA … to make tables; SELECT, INSERT, UPDATE, DELETE and TRUNCATE on them)"
        }
        SqlState::UNDEFINED_TABLE => {
            "was it dropped, or is this another database or schema than that of the application? its start makes what is missing"
        }
        SqlState::INVALID_TEXT_REPRESENTATION | SqlState::UNTRANSLATABLE_CHARACTER => {
            "the value does not fit its column: see ColumnType of the store's ExternalTable"
        }
        _ => "see the server's log, and the table that it names",
    }
}

impl Failures {
    pub fn new(database: String) -> Self {
        Self { database }
    }

    pub fn database(&self) -> &str {
        &self.database
    }

    pub fn of(&self, what: &str, error: &Error) -> ExternalError {
        let text = chain(error);
        if text.contains("TLS handshake") && text.contains("certificate") {
            let advice = "see whether sslrootcert has its authority, and the host in the URL is a name in its certificate";
            return self.refused(what, &text, advice);
        }
        match error.code() {
            Some(code) if !heals(code.code()) => self.refused(what, &text, advice(code)),
            _ => self.unavailable(what, text),
        }
    }

    pub fn unavailable(&self, what: &str, message: String) -> ExternalError {
        ExternalError::Unavailable { database: self.database.clone(), what: what.to_owned(), message }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_tried_again() {
        for code in ["57P01", "57P03", "08006", "40001", "55P03", "25P03", "53300", "53100", "25006"] {
            assert!(heals(code), "{code}");
        }
        for code in ["28P01", "42P01", "42501", "23502", "22P02", "25P02"] {
            assert!(!heals(code), "{code}");
        }
    }
}
