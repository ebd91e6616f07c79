//! The header `Authorization` (RFC 7617, RFC 6750), and why it proves nobody.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use thiserror::Error;

use super::told;
use crate::Secret;

/// What is told of a name that nobody has proved.
const LONGEST_USER: usize = 128;

/// Why a request is nobody's: for the log and the audit stream; a client is told less.
#[derive(Debug, Error)]
pub enum Unauthenticated {
    #[error("there is no Authorization")]
    Missing,
    #[error("Authorization is neither Basic nor Bearer as they are written")]
    Malformed,
    #[error("the scheme of Authorization is not enabled here")]
    Scheme,
    #[error("the user or the password is wrong")]
    Password(String),
    #[error("the token is not accepted: {0}")]
    Token(String),
}

impl Unauthenticated {
    /// Who the client says it is, as far as it does, fit for the log and the audit stream.
    pub fn user(&self) -> String {
        let Self::Password(user) = self else { return String::new() };
        told(user, LONGEST_USER)
    }
}

#[derive(Debug)]
pub enum Authorization {
    Basic { user: String, password: Secret },
    Bearer(String),
}

impl Authorization {
    /// Reads the value of the header.
    ///
    /// # Errors
    /// What is neither Basic nor Bearer, or not as they are written.
    pub fn parse(header: &[u8]) -> Result<Self, Unauthenticated> {
        let text = std::str::from_utf8(header).map_err(|_| Unauthenticated::Malformed)?;
        let (scheme, value) = text.trim().split_once(' ').ok_or(Unauthenticated::Malformed)?;
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Ok(Self::Bearer(value.to_owned()));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(Unauthenticated::Scheme);
        }
        basic(value).ok_or(Unauthenticated::Malformed)
    }
}

fn basic(value: &str) -> Option<Authorization> {
    let text = String::from_utf8(BASE64_STANDARD.decode(value).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    let sound = !user.is_empty() && !password.is_empty() && !text.contains('\0');
    sound.then(|| Authorization::Basic { user: user.to_owned(), password: Secret::new(password) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_and_bearer_are_read() {
        let Ok(Authorization::Basic { user, password }) = Authorization::parse(b"basic YWxpY2U6YTpi") else {
            panic!("no Basic");
        };
        assert_eq!((user.as_str(), password.reveal()), ("alice", "a:b"));
        let Ok(Authorization::Bearer(token)) = Authorization::parse(b"Bearer  a.b.c ") else {
            panic!("no Bearer");
        };
        assert_eq!(token, "a.b.c");
    }

    #[test]
    fn a_name_that_is_told_is_short_and_of_one_line() {
        let told = |user: &str| Unauthenticated::Password(user.to_owned()).user();
        assert_eq!(told("al\nice\u{1b}[2J"), "al\u{fffd}ice\u{fffd}[2J");
        assert_eq!(told(&"ü".repeat(1000)), "ü".repeat(LONGEST_USER));
        assert_eq!(Unauthenticated::Missing.user(), "");
    }

    #[test]
    fn what_is_neither_is_refused() {
        // A user without a name, one without a password, no colon, not base64, not UTF-8.
        for wrong in ["Basic OmE=", "Basic YTo=", "Basic YQ==", "Basic !", "Basic /w==", "Basic", ""] {
            assert!(Authorization::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(matches!(Authorization::parse(b"Digest a=b"), Err(Unauthenticated::Scheme)));
    }
}
