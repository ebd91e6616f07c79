//! docs/protocol.md says what is served and what is not, and why; nothing of the protocol is left out.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use headwater_broker::{ABSENT, NARROWER, ServedApi, served};
use headwater_wire::ApiKey;

/// Kafka's own table.
const KAFKAS: &str = include_str!("../kafka/apis-4.3.1.txt");

fn every_key() -> impl Iterator<Item = ApiKey> {
    (0..=1000).filter_map(ApiKey::from_i16)
}

fn name(key: ApiKey) -> String {
    format!("{key:?}")
}

/// Oldest and newest version by name.
fn kafkas() -> BTreeMap<&'static str, (i16, i16)> {
    let line = |line: &'static str| {
        let mut words = line.split(' ');
        let name = words.next().expect("a name");
        let mut version = || words.next().expect("a version").parse().expect("a number");
        (name, (version(), version()))
    };
    KAFKAS.lines().filter(|line| !line.starts_with('#')).map(line).collect()
}

fn find(served: &[ServedApi], key: ApiKey) -> Option<ServedApi> {
    served.iter().copied().find(|api| api.key == key)
}

fn reason(list: &[(ApiKey, &'static str)], key: ApiKey) -> Option<&'static str> {
    list.iter().find(|(listed, _)| *listed == key).map(|(_, reason)| *reason)
}

#[test]
fn every_api_is_served_or_has_a_reason() {
    let served = served();
    for key in every_key() {
        match find(&served, key) {
            Some(_) => {
                assert_eq!(reason(ABSENT, key), None, "{key:?} is served: delete its reason in api/ledger.rs")
            }
            None => assert!(reason(ABSENT, key).is_some(), "{key:?} is not served: say why in api/ledger.rs"),
        }
    }
}

#[test]
fn every_version_of_kafkas_is_served_or_has_a_reason() {
    let (served, kafkas) = (served(), kafkas());
    for api in served {
        let Some((oldest, newest)) = kafkas.get(name(api.key).as_str()) else { continue };
        // Produce is offered from v0 and served from v3, in both.
        let whole = (api.oldest <= *oldest || api.key == ApiKey::Produce) && api.newest >= *newest;
        let known = reason(NARROWER, api.key).is_some();
        assert_eq!(
            whole, !known,
            "{api:?} beside Kafka's {oldest} to {newest}: api/ledger.rs says otherwise"
        );
    }
}

#[test]
fn the_page_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md");
    let page = std::fs::read_to_string(&path).expect("docs/protocol.md");
    let (before, rest) = page.split_once("<!-- apis -->\n").expect("the mark before the table");
    let (table, after) = rest.split_once("<!-- end of apis -->").expect("the mark behind the table");
    if std::env::var_os("HEADWATER_WRITE_DOCS").is_some() {
        let page = format!("{before}<!-- apis -->\n{}<!-- end of apis -->{after}", documentation());
        std::fs::write(&path, page).expect("written");
    } else {
        assert_eq!(table, documentation(), "run this test with HEADWATER_WRITE_DOCS=1");
    }
}

fn documentation() -> String {
    let (served, kafkas) = (served(), kafkas());
    let mut table = String::from(
        "| key | API | Headwater | Apache Kafka 4.3.1 | what is missing, and why |\n|---|---|---|---|---|\n",
    );
    let range = |(oldest, newest): (i16, i16)| match oldest == newest {
        true => format!("v{oldest}"),
        false => format!("v{oldest}–v{newest}"),
    };
    for key in every_key() {
        let ours = find(&served, key).map_or("—".to_owned(), |api| range((api.oldest, api.newest)));
        let theirs = kafkas.get(name(key).as_str()).map_or("—".to_owned(), |versions| range(*versions));
        let why = reason(ABSENT, key).or(reason(NARROWER, key)).unwrap_or_default();
        writeln!(table, "| {} | {key:?} | {ours} | {theirs} | {why} |", key as i16).expect("written");
    }
    table
}
