//! Bytes and texts that mean harm: an error within bounded time, never a panic.

use std::time::{Duration, Instant};

use headwater_schema::{AvroCodec, AvroSchema, Resolver, can_read};
use proptest::prelude::*;
use serde::de::IgnoredAny;

use crate::schema;

const EVERYTHING: &str = r#"{"type":"record","name":"R","fields":[
    {"name":"a","type":{"type":"array","items":["null","R","string","double"]}},
    {"name":"m","type":{"type":"map","values":"R"}},
    {"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]}},
    {"name":"f","type":{"type":"fixed","name":"F","size":3}},
    {"name":"b","type":"boolean"},{"name":"l","type":"long"},{"name":"i","type":"int"},{"name":"y","type":"bytes"}
]}"#;

/// Wants nothing of what is written, so that everything is skipped.
const NOTHING: &str = r#"{"type":"record","name":"R","fields":[]}"#;

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(prop_oneof![3 => 0_u8..6, 1 => any::<u8>()], 0..200)) {
        let everything = schema(EVERYTHING);
        let shown = AvroCodec::to_json(&everything, &bytes).is_ok();
        let read = Resolver::new(&everything, &everything).unwrap().decode::<IgnoredAny>(&bytes).is_ok();
        prop_assert_eq!(shown, read);
        let _ = Resolver::new(&everything, &schema(NOTHING)).unwrap().decode::<IgnoredAny>(&bytes);
    }

    #[test]
    fn any_text_is_parsed_or_refused(cuts in proptest::collection::vec((0_usize..700, ".{0,3}"), 1..4)) {
        let mut text = EVERYTHING.to_owned();
        for (at, replacement) in cuts {
            let at = at % text.len();
            if text.is_char_boundary(at) && text.is_char_boundary(at + 1) {
                text.replace_range(at..=at, &replacement);
            }
        }
        let _ = AvroSchema::parse(&text);
    }
}

fn is_refused_quickly(text: &str, bytes: &[u8]) {
    let schema = schema(text);
    let begun = Instant::now();
    assert!(AvroCodec::to_json(&schema, bytes).is_err(), "{text}");
    assert!(Resolver::new(&schema, &schema).unwrap().decode::<IgnoredAny>(bytes).is_err(), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{text} took {:?}", begun.elapsed());
}

#[test]
fn items_without_bytes_are_paid_for() {
    let huge: Vec<u8> = vec![0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    is_refused_quickly(r#"{"type":"array","items":"null"}"#, &huge);
    is_refused_quickly(
        r#"{"type":"array","items":{"type":"fixed","name":"F","size":0}}"#,
        &huge.repeat(1000),
    );
    is_refused_quickly(r#"{"type":"array","items":"long"}"#, &huge);
}

#[test]
fn endless_values_are_refused() {
    is_refused_quickly(r#"{"type":"record","name":"R","fields":[{"name":"r","type":"R"}]}"#, &[]);
    is_refused_quickly(
        r#"{"type":"record","name":"R","fields":[{"name":"r","type":{"type":"array","items":"R"}}]}"#,
        &[2; 100_000],
    );
}

#[test]
fn a_schema_that_doubles_with_each_level_is_refused() {
    let mut text = r#"{"type":"record","name":"R0","fields":[]}"#.to_owned();
    for level in 1..30 {
        text = format!(
            r#"{{"type":"record","name":"R{level}","fields":[{{"name":"a","type":{text}}},{{"name":"b","type":"R{}"}}]}}"#,
            level - 1
        );
    }
    is_refused_quickly(&text, &[]);
}

/// A record of 40 levels, each of which has the one before twice.
fn doubling(leaf: &str, default: &str) -> String {
    let mut text = format!(r#"{{"name":"f0","type":{{"type":"record","name":"R0","fields":[{leaf}]}}}}"#);
    for level in 1..40 {
        let before = format!(r#""type":"R{}"{default}"#, level - 1);
        text.push_str(&format!(
            r#",{{"name":"f{level}","type":{{"type":"record","name":"R{level}","fields":[{{"name":"a",{before}}},{{"name":"b",{before}}}]}}}}"#
        ));
    }
    format!(r#"{{"type":"record","name":"Top","fields":[{text}]}}"#)
}

#[test]
fn defaults_that_stand_for_ever_more_values_are_refused() {
    let begun = Instant::now();
    let text = doubling(r#"{"name":"n","type":"int","default":0}"#, r#","default":{}"#);
    assert!(AvroSchema::parse(&text).is_err());
    // What one value would be allowed, many together are not.
    let few = text.split(r#",{"name":"f20""#).next().unwrap().to_owned() + "]}";
    assert!(AvroSchema::parse(&few).is_err());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let fewer = text.split(r#",{"name":"f9""#).next().unwrap().to_owned() + "]}";
    assert!(AvroSchema::parse(&fewer).is_ok());
}

/// On a thread of its own, with room for the depth that is allowed where nothing is optimised.
fn with_room(work: impl FnOnce() + Send + 'static) {
    let begun = Instant::now();
    let thread = std::thread::Builder::new().stack_size(32 << 20).spawn(work).unwrap();
    thread.join().expect("it ends");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn a_change_that_doubles_with_each_level_is_told_in_few_words() {
    with_room(|| {
        let of = |kind: &str| schema(&doubling(&format!(r#"{{"name":"n","type":"{kind}"}}"#), ""));
        let found = can_read(&of("string"), &of("int"));
        assert!((1..100).contains(&found.len()), "{}", found.len());
    });
}

#[test]
fn types_within_each_other_use_up_no_stack() {
    with_room(|| {
        // The chain is met at its end, by a field that both have; its types are defined in fields that one of them has.
        let chain = |name: &str, leaf: &str| {
            let mut text = String::new();
            for level in 0..8000 {
                let inner = if level == 0 { format!(r#""{leaf}""#) } else { format!(r#""R{}""#, level - 1) };
                text.push_str(&format!(
                    r#"{{"name":"{name}{level}","type":["null",{{"type":"record","name":"R{level}","fields":[{{"name":"a","type":{inner}}}]}}],"default":null}},"#
                ));
            }
            schema(&format!(
                r#"{{"type":"record","name":"Top","fields":[{text}{{"name":"z","type":"R7999"}}]}}"#
            ))
        };
        let found = can_read(&chain("g", "int"), &chain("h", "int"));
        assert_eq!(found.iter().map(|problem| problem.rule).collect::<Vec<_>>(), ["SCHEMA_TOO_LARGE"]);
        assert!(Resolver::new(&chain("h", "int"), &chain("g", "int")).is_err());
    });
}

#[test]
fn unions_of_very_many_branches_are_not_compared_to_the_end() {
    with_room(|| {
        let union = |name: &str| {
            let branch = |at| format!(r#"{{"type":"fixed","name":"{name}{at}","size":1}}"#);
            schema(&format!("[{}]", (0..10_000).map(branch).collect::<Vec<_>>().join(",")))
        };
        assert!(!can_read(&union("A"), &union("B")).is_empty());
    });
}

#[test]
fn values_without_bytes_become_no_endless_json() {
    let nulls: Vec<String> = (0..1000).map(|at| format!(r#"{{"name":"n{at}","type":"null"}}"#)).collect();
    let record = format!(r#"{{"type":"record","name":"R","fields":[{}]}}"#, nulls.join(","));
    let array = schema(&format!(r#"{{"type":"array","items":{record}}}"#));
    // 60,000 records of 1,000 nulls in 4 bytes.
    assert!(AvroCodec::to_json(&array, [0xc0_u8, 0xa9, 0x07, 0]).is_err());
    assert!(AvroCodec::to_json(&array, [20_u8, 0]).is_ok());
    let nullable = schema(r#"{"type":"array","items":["null","int"]}"#);
    let mut body = vec![0x80, 0x80, 0x80, 0x01];
    body.resize(body.len() + (1 << 20), 0);
    body.push(0);
    assert!(AvroCodec::to_json(&nullable, &body).is_ok(), "a mebibyte of nulls that each have their byte");
}

#[test]
fn bytes_left_over_are_refused() {
    is_refused_quickly("\"int\"", &[2, 2]);
}
