//! Tables, JSON lines and errors, as people and pipes want them.

use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use comfy_table::{Cell, CellAlignment, Table, presets};
use headwater_client::ClientError;
use headwater_registry::RegistryError;
use serde::Serialize;
use serde_json::json;

/// Exit codes after sysexits(3); 0 is done, 1 is "found a difference", 2 is usage.
pub const DATA: u8 = 65;
pub const NO_INPUT: u8 = 66;
pub const UNAVAILABLE: u8 = 69;
pub const SOFTWARE: u8 = 70;

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

    pub fn report(self, json: bool) -> ExitCode {
        if json {
            println!("{}", json!({ "error": self.what, "try": self.next, "code": self.code }));
        }
        eprintln!("error: {}", self.what);
        if let Some(next) = &self.next {
            eprintln!("  try: {next}");
        }
        ExitCode::from(self.code)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::new(UNAVAILABLE, error, None)
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::new(UNAVAILABLE, error, None)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::internal(error)
    }
}

/// Whether standard output is a person's terminal.
pub fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Writes one line; a reader that has gone away (`| head`) ends the program quietly.
pub fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    if let Err(error) = written {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("error: writing to standard output: {error}");
        std::process::exit(i32::from(SOFTWARE));
    }
}

pub fn json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => line(&text),
        Err(error) => eprintln!("error: {error}"),
    }
}

/// Rows under a header; columns whose header ends in `#` hold numbers and stand right.
pub fn table(header: &[&str], rows: Vec<Vec<String>>) {
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
