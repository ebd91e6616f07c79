//! Entries of the catalog that say where a service answers: the console asks there, and takes what it hears for the
//! service's word.
//!
//! Where access rules count, whoever may READ the service's group speaks for it, and nobody else. Entries without an
//! address are there to be looked at, and need no more than WRITE on the catalog.

use headwater_wire::filter::RecordView;
use serde_json::Value;

use super::super::{Call, rights};

/// What the client claims of groups that are not its own; nothing for anything else.
pub fn refused(call: &Call, record: &RecordView<'_>) -> Option<String> {
    let groups = groups(record.key?, record.value?)?;
    let group = groups.into_iter().find(|group| !call.may(rights::READ_GROUP, group))?;
    Some(format!(
        "it says where the service of the group {group} answers, which needs READ on GROUP {group}: headwater acl add --group {group} --principal {} -o read",
        call.principal
    ))
}

/// The groups that an entry with an address speaks for: the one by the service's name, and the one it says it has.
fn groups(key: &[u8], value: &[u8]) -> Option<Vec<String>> {
    let name = std::str::from_utf8(key).ok()?.strip_prefix("service/")?;
    let entry: Value = serde_json::from_slice(value).ok()?;
    entry.get("http")?.as_str()?;
    let own = entry.get("group_id").and_then(Value::as_str).filter(|group| *group != name);
    Some([name].into_iter().chain(own).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_with_an_address_speaks_for_its_name_and_its_group() {
        let of = |key: &str, value: &str| groups(key.as_bytes(), value.as_bytes());
        let both = Some(vec!["shop".to_owned(), "eve".to_owned()]);
        assert_eq!(of("service/shop", r#"{"http":"http://a","group_id":"eve"}"#), both);
        let one = Some(vec!["shop".to_owned()]);
        assert_eq!(of("service/shop", r#"{"http":"http://a"}"#), one);
        assert_eq!(of("service/shop", r#"{"http":"http://a","group_id":"shop"}"#), one);
        assert_eq!(of("service/shop", r#"{"http":null,"group_id":"eve"}"#), None);
        assert_eq!(of("service/connect-shop", r#"{"reads":[]}"#), None);
        assert_eq!(of("topic/orders", r#"{"http":"http://a"}"#), None);
        assert_eq!(of("service/shop", "no JSON"), None);
    }
}
