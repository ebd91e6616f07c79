//! Rust values to bytes and back.

use std::collections::{BTreeMap, HashMap};

use headwater_schema::{AvroCodec, AvroSchema, Resolver, encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::schema;

fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(schema: &AvroSchema, value: &T) {
    let body = encode(schema, value).unwrap_or_else(|error| panic!("{value:?}: {error}"));
    let decoded: T = Resolver::new(schema, schema)
        .unwrap()
        .decode(&body)
        .unwrap_or_else(|error| panic!("{value:?}: {error}"));
    assert_eq!(&decoded, value);
}

const FLIGHT: &str = r#"{"type":"record","name":"Flight","namespace":"demo","fields":[
    {"name":"carrier","type":"string"},
    {"name":"number","type":"int"},
    {"name":"tail","type":["null","string"],"default":null},
    {"name":"departed","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null},
    {"name":"delay","type":"double"},
    {"name":"ratio","type":"float"},
    {"name":"cancelled","type":"boolean"},
    {"name":"raw","type":"bytes"},
    {"name":"digest","type":{"type":"fixed","name":"Digest","size":3}},
    {"name":"status","type":{"type":"enum","name":"Status","symbols":["SCHEDULED","DEPARTED"]}},
    {"name":"legs","type":{"type":"array","items":{"type":"record","name":"Leg","fields":[{"name":"to","type":"string"}]}}},
    {"name":"notes","type":{"type":"map","values":"long"}}
]}"#;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Status {
    #[serde(rename = "SCHEDULED")]
    Scheduled,
    #[serde(rename = "DEPARTED")]
    Departed,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Leg {
    to: String,
}

/// Its fields come in another order than the schema's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Flight {
    notes: BTreeMap<String, i64>,
    number: u16,
    carrier: String,
    departed: Option<i64>,
    tail: Option<String>,
    ratio: f32,
    delay: f64,
    digest: [u8; 3],
    raw: Vec<u8>,
    cancelled: bool,
    legs: Vec<Leg>,
    status: Status,
}

fn flight() -> Flight {
    Flight {
        notes: BTreeMap::from([("a".into(), 1), ("b".into(), -2)]),
        number: 1545,
        carrier: "UA".into(),
        departed: Some(1_700_000_000_000),
        tail: None,
        ratio: 0.5,
        delay: -3.25,
        digest: [1, 2, 255],
        raw: vec![0, 9],
        cancelled: false,
        legs: vec![Leg { to: "IAH".into() }, Leg { to: "ORD".into() }],
        status: Status::Departed,
    }
}

#[test]
fn a_struct_is_matched_by_name() {
    let schema = schema(FLIGHT);
    round_trip(&schema, &flight());
    let shown = AvroCodec::to_json(&schema, encode(&schema, &flight()).unwrap()).unwrap();
    assert_eq!(
        (&shown["carrier"], &shown["status"], &shown["legs"][1]["to"]),
        (&json!("UA"), &json!("DEPARTED"), &json!("ORD"))
    );
    assert_eq!(encode(&schema, &flight()), AvroCodec::from_json(&schema, &shown));
}

#[test]
fn fields_left_out_take_their_defaults() {
    #[derive(Serialize)]
    struct Partial {
        b: i32,
        #[serde(skip_serializing_if = "Option::is_none")]
        c: Option<i32>,
    }
    let text = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"string","default":"x"},{"name":"b","type":"long"},{"name":"c","type":"int","default":3}]}"#;
    let schema = schema(text);
    let body = encode(&schema, &Partial { b: 1, c: None }).unwrap();
    assert_eq!(AvroCodec::to_json(&schema, &body), Ok(json!({ "a": "x", "b": 1, "c": 3 })));
}

#[test]
fn what_would_lose_data_is_an_error() {
    let record = |kind: &str| {
        schema(&format!(r#"{{"type":"record","name":"R","fields":[{{"name":"a","type":"{kind}"}}]}}"#))
    };
    let told = |kind: &str, value: serde_json::Value| encode(&record(kind), &value).unwrap_err().to_string();
    assert!(
        told("int", json!({ "a": 1_u64 << 40 })).contains("/a: 1099511627776 is out of the range of int")
    );
    assert!(told("float", json!({ "a": 0.5 })).contains("/a: the schema says float, the value is a double"));
    assert!(told("int", json!({ "a": 1, "z": 1 })).contains("record R has no field z"));
    assert!(told("int", json!({})).contains("field a of R is missing"));
    assert!(told("string", json!({ "a": 1 })).contains("the schema says string, the value is an integer"));
    assert!(told("int", json!({ "a": null })).contains("the schema says int, the value is null"));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Event {
    Opened { by: String },
    Closed(Closed),
    Long(i64),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Closed {
    at: i64,
}

#[test]
fn variants_with_data_are_a_unions_branches() {
    let text = r#"["null","long",{"type":"record","name":"x.Opened","fields":[{"name":"by","type":"string"}]},{"type":"record","name":"x.Closed","fields":[{"name":"at","type":"long"}]}]"#;
    let schema = schema(text);
    round_trip(&schema, &Event::Opened { by: "me".into() });
    round_trip(&schema, &Event::Closed(Closed { at: 3 }));
    round_trip(&schema, &Some(Event::Long(7)));
    round_trip(&schema, &Option::<Event>::None);
}

#[test]
fn a_flattened_struct_and_a_map_of_records_are_matched_by_name() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Outer {
        a: i64,
        #[serde(flatten)]
        rest: Leg,
    }
    round_trip(
        &schema(
            r#"{"type":"record","name":"R","fields":[{"name":"to","type":"string"},{"name":"a","type":"long"}]}"#,
        ),
        &Outer { a: 1, rest: Leg { to: "x".into() } },
    );
    round_trip(
        &schema(
            r#"{"type":"map","values":{"type":"record","name":"Leg","fields":[{"name":"to","type":"string"}]}}"#,
        ),
        &HashMap::from([("k".to_owned(), Leg { to: "x".into() })]),
    );
}

#[test]
fn a_list_may_hide_its_length() {
    struct Hidden;
    impl Serialize for Hidden {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq([1_i32, 2, 3].iter().filter(|_| true))
        }
    }
    let schema = schema(r#"{"type":"array","items":"int"}"#);
    assert_eq!(encode(&schema, &Hidden), encode(&schema, &[1, 2, 3]));
    assert_eq!(encode(&schema, &Vec::<i32>::new()), Ok(vec![0]));
}
