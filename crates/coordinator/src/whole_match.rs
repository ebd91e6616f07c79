//! Regular expressions of clients (RE2 syntax), matched against whole names.

use std::sync::Arc;

use regex::{Regex, RegexBuilder};

/// The longest expression that is read at all, in bytes. What reading takes is not bounded by what comes of it: of some classes
/// each has thousands of bytes before anything is compiled.
const LONGEST: usize = 16 << 10;
/// The most memory one compiled expression may take.
const COMPILED_BYTES: usize = 1 << 20;

fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(COMPILED_BYTES).dfa_size_limit(COMPILED_BYTES).build()
}

/// An expression that matches a name from its beginning to its end, or not at all.
///
/// # Errors
/// When it is none, is longer than 16 KiB, or takes more than a mebibyte compiled.
pub fn whole_match(pattern: &str) -> Result<Regex, regex::Error> {
    if pattern.len() > LONGEST {
        return Err(regex::Error::Syntax(format!("it is longer than {LONGEST} bytes")));
    }
    // By itself first: "a)(b" must not become legal by what surrounds it.
    compile(pattern).and_then(|_| compile(&format!("^(?:{pattern})$")))
}

/// An expression that was compiled where it came in: that takes milliseconds, in which nobody else is answered here.
#[derive(Debug, Clone)]
pub struct Compiled(Arc<Result<Regex, regex::Error>>);

impl Compiled {
    pub fn new(pattern: &str) -> Self {
        Self(Arc::new(whole_match(pattern)))
    }

    pub(crate) fn outcome(&self) -> Result<Regex, regex::Error> {
        (*self.0).clone()
    }
}

impl PartialEq for Compiled {
    fn eq(&self, other: &Self) -> bool {
        let text = |compiled: &Self| compiled.outcome().map(|regex| regex.as_str().to_owned());
        text(self) == text(other)
    }
}

impl Eq for Compiled {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_may_be_long_but_not_of_any_length() {
        assert!(whole_match(&"(?:)".repeat(LONGEST / 4)).is_ok());
        let error = whole_match(&"(?:)".repeat(LONGEST / 4 + 1)).unwrap_err();
        assert!(error.to_string().contains("longer than"), "{error}");
    }
}
