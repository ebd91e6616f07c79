//! Avro as people see it.

use headwater_schema::AvroCodec;
use serde_json::json;

use crate::schema;

fn round_trip(text: &str, value: serde_json::Value) {
    let schema = schema(text);
    let body = AvroCodec::from_json(&schema, &value).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(AvroCodec::to_json(&schema, &body), Ok(value), "{text}");
}

#[test]
fn values_survive() {
    round_trip("\"null\"", json!(null));
    round_trip("\"boolean\"", json!(true));
    round_trip("\"long\"", json!(i64::MIN));
    round_trip("\"float\"", json!(0.1));
    round_trip("\"double\"", json!("NaN"));
    round_trip("\"double\"", json!("-Infinity"));
    round_trip("\"bytes\"", json!("\u{0}\u{ff}a"));
    round_trip(r#"{"type":"fixed","name":"F","size":2}"#, json!("\u{80}b"));
    round_trip(r#"{"type":"enum","name":"E","symbols":["A","B"]}"#, json!("B"));
    round_trip(r#"{"type":"array","items":["null","long"]}"#, json!([1, null, 2]));
    round_trip(r#"{"type":"map","values":"string"}"#, json!({ "a": "b", "c": "d" }));
    round_trip(r#"{"type":"long","logicalType":"timestamp-millis"}"#, json!(1_700_000_000_000_i64));
    let list = r#"{"type":"record","name":"List","fields":[{"name":"head","type":"int"},{"name":"tail","type":["null","List"]}]}"#;
    round_trip(list, json!({ "head": 1, "tail": { "head": 2, "tail": null } }));
}

#[test]
fn a_union_takes_bare_and_tagged_values() {
    let text = r#"["null","long",{"type":"record","name":"x.R","fields":[{"name":"long","type":"string"}]}]"#;
    let schema = schema(text);
    let encode = |value| AvroCodec::from_json(&schema, &value).unwrap();
    assert_eq!(encode(json!({ "long": 3 })), encode(json!(3)));
    assert_eq!(encode(json!({ "x.R": { "long": "a" } })), encode(json!({ "long": "a" })));
    assert_eq!(encode(json!({ "R": { "long": "a" } })), encode(json!({ "long": "a" })));
}

#[test]
fn fields_left_out_take_their_defaults_and_unknown_ones_are_errors() {
    let schema = schema(
        r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int","default":7},{"name":"b","type":"int"}]}"#,
    );
    let body = AvroCodec::from_json(&schema, &json!({ "b": 1 })).unwrap();
    assert_eq!(AvroCodec::to_json(&schema, &body), Ok(json!({ "a": 7, "b": 1 })));
    let error = AvroCodec::from_json(&schema, &json!({ "a": 1 })).unwrap_err().to_string();
    assert!(error.contains("field b of R is missing"), "{error}");
    let error = AvroCodec::from_json(&schema, &json!({ "b": 1, "c": 1 })).unwrap_err().to_string();
    assert!(error.contains("has no field c"), "{error}");
    let error = AvroCodec::from_json(&schema, &json!({ "b": "x" })).unwrap_err().to_string();
    assert_eq!(error, "the value does not fit the schema at /b: \"x\" is not int");
}
