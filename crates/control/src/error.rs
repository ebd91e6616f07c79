//! What can be wrong with a manifest. Every message says where, what and what to do.

use std::path::PathBuf;

/// A manifest that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("read manifest {}: {source}; create it beside the service's code, or name another file", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{origin}:{line}:{column}: not valid TOML: {message}; correct this line")]
    Syntax { origin: Box<str>, line: usize, column: usize, message: Box<str> },
    #[error("{origin}:{line}: unknown key `{key}` in {section}{}; known keys: {known}", suggestion(nearest.as_deref()))]
    UnknownKey {
        origin: Box<str>,
        line: usize,
        section: Box<str>,
        key: Box<str>,
        nearest: Option<Box<str>>,
        known: Box<str>,
    },
    #[error("{origin}:{line}: {section} lacks `{key}`; add for example `{example}`")]
    MissingKey { origin: Box<str>, line: usize, section: Box<str>, key: &'static str, example: &'static str },
    #[error("{origin}:{line}: `{key}` in {section} is {found}, but must be {expected}")]
    WrongType {
        origin: Box<str>,
        line: usize,
        section: Box<str>,
        key: Box<str>,
        expected: &'static str,
        found: &'static str,
    },
    #[error("{origin}:{line}: `{key} = {value:?}` in {section} cannot be used: {reason}")]
    Invalid {
        origin: Box<str>,
        line: usize,
        section: Box<str>,
        key: Box<str>,
        value: Box<str>,
        reason: Box<str>,
    },
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}
