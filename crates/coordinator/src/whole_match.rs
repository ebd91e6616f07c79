//! Regular expressions of clients (RE2 syntax), matched against whole names.

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
