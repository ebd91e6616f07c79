//! Who a client is, as Kafka's authorizer and quotas know it (KIP-290: a type and a name).

use std::fmt;

/// The type of every principal that Kafka's own authentication makes.
pub const USER: &str = "User";

/// `User:alice`; [`Principal::anonymous`] for whoever has not said who they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Principal {
    pub kind: String,
    pub name: String,
}

impl Principal {
    pub fn user(name: impl Into<String>) -> Self {
        Self { kind: USER.to_owned(), name: name.into() }
    }

    pub fn anonymous() -> Self {
        Self::user("ANONYMOUS")
    }

    /// Reads `TYPE:NAME`; a name may hold colons. `None` when either part is missing.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(':')?;
        (!kind.is_empty() && !name.is_empty()).then(|| Self { kind: kind.to_owned(), name: name.to_owned() })
    }
}

impl Default for Principal {
    fn default() -> Self {
        Self::anonymous()
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_is_read_as_it_is_written() {
        let principal = Principal::parse("User:CN=a:b,O=c").unwrap();
        assert_eq!(principal, Principal::user("CN=a:b,O=c"));
        assert_eq!(Principal::parse(&principal.to_string()), Some(principal));
        assert_eq!(Principal::parse("User:"), None);
        assert_eq!(Principal::parse("alice"), None);
    }
}
