//! Who a stream belongs to: `headwater.owner` and `headwater.internal`, and which of their values agree.
//!
//! Owns the rule in words; who writes and reads is checked by whoever serves requests.

use std::collections::BTreeMap;

use headwater_model::Principal;

use crate::error::{Error, Failure};
use crate::records::TopicRecord;

/// The only principal that may write.
pub const OWNER: &str = "headwater.owner";
/// Whether nobody else may read, either.
pub const INTERNAL: &str = "headwater.internal";
/// How Kafka Streams, and what is like it, calls the topics that belong to one application.
const SUFFIXES: [&str; 2] = ["-changelog", "-repartition"];

/// Whether the name is one of a service's own streams: `<application.id>-…-changelog` or `…-repartition`.
pub fn is_of_a_service(name: &str) -> bool {
    SUFFIXES.iter().any(|suffix| name.strip_suffix(suffix).is_some_and(|of| !of.is_empty()))
}

/// One principal, or nothing. A name may hold commas (`User:CN=orders,O=shop`), but no second principal after one.
pub(crate) fn is_one_principal(value: &str) -> bool {
    let list = |separator: char| value.split(separator).skip(1).any(|more| is_user(more.trim()));
    value.is_empty() || (is_user(value) && !list(',') && !list(';') && value.trim() == value)
}

fn is_user(text: &str) -> bool {
    Principal::parse(text).is_some_and(|principal| principal.kind.chars().all(char::is_alphanumeric))
}

/// Refuses a stream that is closed to everybody.
pub(crate) fn check(configs: &BTreeMap<String, String>) -> Result<(), Failure> {
    let value = |key: &str| configs.get(key).map_or("", String::as_str);
    if value(INTERNAL) != "true" || !value(OWNER).is_empty() {
        return Ok(());
    }
    let message = format!(
        "{INTERNAL}=true closes the stream to all but its owner, and there is none: set {OWNER}=User:NAME with it"
    );
    Err(Failure::new(Error::InvalidConfig, message))
}

impl TopicRecord {
    /// Who alone may write; `None` for whoever has the right.
    pub fn owner(&self) -> Option<Principal> {
        Principal::parse(self.configs.get(OWNER)?)
    }

    /// Whether the owner alone may read, too.
    pub fn is_closed(&self) -> bool {
        self.configs.get(INTERNAL).is_some_and(|value| value == "true")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_principal_is_told_from_several() {
        for good in ["", "User:orders", "User:CN=orders,O=shop", "Service:a:b"] {
            assert!(is_one_principal(good), "{good}");
        }
        for bad in ["orders", "User:", "User:a,User:b", "User:a; User:b", "User:a,Service:b", " User:a"] {
            assert!(!is_one_principal(bad), "{bad}");
        }
    }

    #[test]
    fn the_streams_of_a_service_are_known_by_their_ends() {
        for own in ["shop-totals-changelog", "shop-by-city-repartition"] {
            assert!(is_of_a_service(own), "{own}");
        }
        for other in ["changelog", "-changelog", "shop-changelogs", "changelog-shop", "repartition"] {
            assert!(!is_of_a_service(other), "{other}");
        }
    }
}
