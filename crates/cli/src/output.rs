//! Tables, JSON lines and errors, as people and pipes want them.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use comfy_table::{Cell, CellAlignment, Table, presets};
use headwater_client::{ClientError, ErrorCode};
use headwater_registry::RegistryError;
use serde::Serialize;
use serde_json::json;

use crate::waiting;

/// Exit codes after sysexits(3); 0 is done, 1 is "found a difference". docs/operating.md has the table.
pub const USAGE: u8 = 2;
pub const DATA: u8 = 65;
pub const NO_INPUT: u8 = 66;
pub const UNAVAILABLE: u8 = 69;
pub const SOFTWARE: u8 = 70;
/// Of an output file.
pub const CANNOT_CREATE: u8 = 73;
/// Of a disk.
pub const IO: u8 = 74;
pub const NO_PERMISSION: u8 = 77;
/// As shells say it of a program that SIGINT ended.
pub const INTERRUPTED: u8 = 130;

/// A command that failed: what, why, and what to do next.
#[derive(Debug)]
pub struct Failure {
    pub what: String,
    pub next: Option<String>,
    pub code: u8,
}

impl Failure {
    pub fn new(code: u8, what: impl Display, next: impl Into<Option<String>>) -> Self {
        Self { what: what.to_string(), next: next.into(), code }
    }

    pub fn internal(what: impl Display) -> Self {
        Self::new(SOFTWARE, what, None)
    }

    /// An error whose text ends with what to do, after a semicolon.
    pub fn with_advice(code: u8, error: impl Display) -> Self {
        let text = error.to_string();
        match text.rsplit_once("; ") {
            Some((what, next)) => Self::new(code, what, next.to_owned()),
            None => Self::new(code, text, None),
        }
    }

    /// What to do, where the error does not say so itself.
    #[must_use]
    pub fn or_try(mut self, next: impl Into<String>) -> Self {
        self.next.get_or_insert_with(|| next.into());
        self
    }

    pub fn report(self, json: bool) -> ExitCode {
        if json {
            let object = json!({ "error": self.what, "try": self.next, "code": self.code });
            // The exit code says it, too.
            let _ = writeln!(std::io::stdout(), "{object}");
        }
        note(&format!("error: {}", self.what));
        if let Some(next) = &self.next {
            note(&format!("  try: {next}"));
        }
        ExitCode::from(self.code)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        if let Some(code) = error.code().filter(|_| error.is_denied()) {
            tracing::debug!(?code, "denied");
            let next = "headwater acl list shows who may";
            let what = error.to_string().replace(&format!("; {next}"), "");
            return Self::new(NO_PERMISSION, what, next.to_owned());
        }
        match &error {
            ClientError::UnknownTopic(name) => crate::commands::unknown_topic(name),
            ClientError::TopicExists(name) => {
                let next = format!("headwater topic describe {name}, or headwater topic alter {name}");
                Self::new(DATA, error, next)
            }
            ClientError::Authentication { .. } => Self::with_advice(NO_PERMISSION, error),
            ClientError::RecordTooLarge { .. } | ClientError::RecordsRefused { .. } => {
                Self::new(DATA, error, None)
            }
            ClientError::GaveUp { .. } | ClientError::Timeout { .. } => {
                let code = error.code().filter(|code| is_bad_input(*code)).map_or(UNAVAILABLE, |_| DATA);
                Self::new(code, error, "headwater doctor says what holds the broker up".to_owned())
            }
            ClientError::Kafka { code, .. } if is_bad_input(*code) => Self::new(DATA, error, None),
            ClientError::Kafka { code: ErrorCode::GroupIdNotFound, .. } => {
                Self::new(NO_INPUT, error, "headwater group list".to_owned())
            }
            _ => Self::with_advice(UNAVAILABLE, error),
        }
    }
}

/// What the caller has to change.
fn is_bad_input(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::InvalidRecord
            | ErrorCode::InvalidTimestamp
            | ErrorCode::MessageTooLarge
            | ErrorCode::RecordListTooLarge
            | ErrorCode::InvalidConfig
            | ErrorCode::InvalidTopicException
            | ErrorCode::InvalidPartitions
            | ErrorCode::InvalidReplicationFactor
            | ErrorCode::InvalidRequest
            | ErrorCode::PolicyViolation
            | ErrorCode::UnacceptableCredential
    )
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Kafka(error) => error.into(),
            RegistryError::Schema(_) | RegistryError::Address { .. } => {
                Self::new(DATA, error, "--registry http://HOST:PORT".to_owned())
            }
            RegistryError::Refused { status: 404, .. } => {
                let next = "headwater schema list, or headwater schema register SUBJECT FILE";
                Self::new(NO_INPUT, error, next.to_owned())
            }
            RegistryError::Refused { status: 401 | 403, .. } => {
                Self::with_advice(NO_PERMISSION, error).or_try("headwater acl list shows who may")
            }
            RegistryError::Unauthenticated { .. } => Self::with_advice(NO_PERMISSION, error),
            RegistryError::Refused { status: 400..=499, .. } => Self::new(DATA, error, None),
            _ => Self::with_advice(UNAVAILABLE, error),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::internal(error)
    }
}

/// Writes one line to standard error. Whoever closed it does not want to know: that ends nothing.
pub fn note(text: &str) {
    waiting::clear();
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Whether nobody has asked for text without colours (<https://no-color.org>).
pub fn may_be_coloured() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether standard output is a person's terminal.
pub fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Whether what runs comes to its end although nobody reads what it says.
static TO_THE_END: AtomicBool = AtomicBool::new(false);

/// Something could not be written, and not because nobody reads it.
static LOST: AtomicBool = AtomicBool::new(false);

/// For what changes something, or has an exit code that counts: from here on a reader that goes away ends nothing, nor does a
/// disk that is full. Half of a change would be left, with an exit code that says it is done.
pub fn to_the_end() {
    TO_THE_END.store(true, Ordering::Relaxed);
}

/// Writes one line; a reader that has gone away (`| head`) ends the program quietly, unless it goes [`to_the_end`].
pub fn line(text: &str) {
    write(format!("{text}\n").as_bytes());
}

/// As [`line`], of what has its line ends.
pub fn write(bytes: &[u8]) {
    waiting::clear();
    let mut out = std::io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    if let Err(error) = written {
        let goes_on = TO_THE_END.load(Ordering::Relaxed);
        if error.kind() == ErrorKind::BrokenPipe {
            if goes_on {
                return;
            }
            std::process::exit(0);
        }
        // Said once, however much is lost.
        if !LOST.swap(true, Ordering::Relaxed) {
            note(&format!("error: writing to standard output: {error}"));
        }
        if !goes_on {
            std::process::exit(i32::from(SOFTWARE));
        }
    }
}

/// Whether something could not be written to standard output, as on a disk that is full: that is no success.
pub fn is_lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

/// Text of others, for whoever looks: to a terminal its control characters would be commands.
pub fn visible(text: &str) -> Cow<'_, str> {
    if is_terminal() { escaped(text) } else { Cow::Borrowed(text) }
}

/// Control characters as Rust writes them, `\n` and `\u{1b}`.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for one in text.chars() {
        if one.is_control() { shown.extend(one.escape_default()) } else { shown.push(one) }
    }
    Cow::Owned(shown)
}

pub fn json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => line(&text),
        Err(error) => note(&format!("error: {error}")),
    }
}

/// Rows under a header; columns whose header ends in `#` hold numbers and stand right. A line end or a tab in a name makes
/// no row and no column.
pub fn table(header: &[&str], rows: Vec<Vec<String>>) {
    let cells =
        |row: Vec<String>| -> Vec<String> { row.iter().map(|text| escaped(text).into_owned()).collect() };
    let rows: Vec<Vec<String>> = rows.into_iter().map(cells).collect();
    if !is_terminal() {
        line(&header.iter().map(|name| name.trim_end_matches('#')).collect::<Vec<_>>().join("\t"));
        rows.iter().for_each(|row| line(&row.join("\t")));
        return;
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(header.iter().map(|name| aligned(name, name.trim_end_matches('#'))));
    for row in rows {
        table.add_row(row.iter().zip(header).map(|(text, name)| aligned(name, text)));
    }
    line(&table.to_string());
}

fn aligned(header: &str, text: &str) -> Cell {
    let alignment = if header.ends_with('#') { CellAlignment::Right } else { CellAlignment::Left };
    Cell::new(text).set_alignment(alignment)
}

/// `1 member`, `2 members`.
pub fn count(number: impl TryInto<i64>, noun: &str) -> String {
    let number = number.try_into().unwrap_or(i64::MAX);
    format!("{} {noun}{}", self::number(number), if number == 1 { "" } else { "s" })
}

/// `1234567` as `1,234,567` on a terminal, exact digits in a pipe.
pub fn number(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    if !is_terminal() {
        return value.to_string();
    }
    let mut grouped = String::from(if value < 0 { "-" } else { "" });
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_give_no_commands() {
        assert_eq!(escaped("a\u{1b}[2J\tb\n\u{9b}c"), "a\\u{1b}[2J\\tb\\n\\u{9b}c");
        assert_eq!(escaped("Straße"), "Straße");
    }
}
