//! Data of one schema read with another.

use headwater_schema::{AvroCodec, Resolver, SchemaError, can_read};
use serde_json::{Value, json};

use crate::schema;

fn read(writer: &str, value: Value, reader: &str) -> Result<Value, SchemaError> {
    let (writer, reader) = (schema(writer), schema(reader));
    let body = AvroCodec::from_json(&writer, &value).unwrap();
    Resolver::new(&writer, &reader)?.decode(&body)
}

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#)
}

#[test]
fn defaults_fill_and_unwanted_fields_are_passed_over() {
    let writer = record(
        r#"{"name":"gone","type":{"type":"map","values":{"type":"array","items":["null","double"]}}},{"name":"a","type":"int"},
           {"name":"also","type":["null","R"],"default":null}"#,
    );
    let reader = record(
        r#"{"name":"new","type":{"type":"array","items":"string"},"default":["x","y"]},{"name":"a","type":"int"}"#,
    );
    let value = json!({ "gone": { "k": [1.5, null], "l": [] }, "a": 3, "also": { "gone": {}, "a": 4 } });
    assert_eq!(read(&writer, value, &reader), Ok(json!({ "a": 3, "new": ["x", "y"] })));
}

#[test]
fn numbers_and_texts_are_promoted() {
    for (writer, reader, value, expected) in [
        ("int", "long", json!(5), json!(5)),
        ("int", "double", json!(5), json!(5.0)),
        ("long", "double", json!(-5), json!(-5.0)),
        ("long", "float", json!(3), json!(3.0)),
        ("float", "double", json!(0.5), json!(0.5)),
        ("bytes", "string", json!("abc"), json!("abc")),
    ] {
        assert_eq!(
            read(&format!("\"{writer}\""), value, &format!("\"{reader}\"")),
            Ok(expected),
            "{writer} {reader}"
        );
    }
    let bytes =
        Resolver::new(&schema("\"string\""), &schema("\"bytes\"")).unwrap().decode::<Vec<u8>>(b"\x04hi");
    assert_eq!(bytes, Ok(b"hi".to_vec()));
}

#[test]
fn aliases_of_the_reader_find_renamed_fields() {
    let reader = record(r#"{"name":"b","aliases":["a"],"type":"long"}"#);
    assert_eq!(
        read(&record(r#"{"name":"a","type":"int"}"#), json!({ "a": 1 }), &reader),
        Ok(json!({ "b": 1 }))
    );
}

#[test]
fn unknown_symbols_become_the_enums_default() {
    let writer = r#"{"type":"enum","name":"E","symbols":["A","B","C"]}"#;
    let with = r#"{"type":"enum","name":"E","symbols":["C","Z"],"default":"Z"}"#;
    let without = r#"{"type":"enum","name":"E","symbols":["C"]}"#;
    assert_eq!(read(writer, json!("B"), with), Ok(json!("Z")));
    assert_eq!(read(writer, json!("C"), without), Ok(json!("C")));
    let error = read(writer, json!("B"), without).unwrap_err().to_string();
    assert!(error.contains("enum E has no symbol B"), "{error}");
}

#[test]
fn a_unions_branch_fails_only_when_it_occurs() {
    let (writer, reader) = (r#"["null","string"]"#, "\"string\"");
    assert_eq!(read(writer, json!("x"), reader), Ok(json!("x")));
    assert!(
        read(writer, json!(null), reader)
            .unwrap_err()
            .to_string()
            .contains("the writer has null, the reader wants string")
    );
    assert_eq!(read("\"int\"", json!(1), r#"["null","long"]"#), Ok(json!(1)));
    assert_eq!(read(r#"["int","string"]"#, json!(1), r#"["string","double"]"#), Ok(json!(1.0)));
    assert!(Resolver::new(&schema(r#"["null","int"]"#), &schema("\"string\"")).is_err());
}

#[test]
fn what_cannot_be_read_is_told_before_any_data_comes() {
    let (writer, reader) = (record(r#"{"name":"a","type":"int"}"#), record(r#"{"name":"b","type":"int"}"#));
    let error = Resolver::new(&schema(&writer), &schema(&reader)).unwrap_err().to_string();
    assert!(error.contains("at /b") && error.contains("no default"), "{error}");
}

#[test]
fn recursive_types_are_resolved() {
    let list = |kind: &str| {
        format!(
            r#"{{"type":"record","name":"L","fields":[{{"name":"v","type":"{kind}"}},{{"name":"next","type":["null","L"]}}]}}"#
        )
    };
    let value = json!({ "v": 1, "next": { "v": 2, "next": null } });
    assert_eq!(read(&list("int"), value.clone(), &list("long")), Ok(value));
}

#[test]
fn what_can_be_read_by_the_rules_is_read() {
    let inner =
        |name: &str, fields: &str| format!(r#"{{"type":"record","name":"{name}","fields":[{fields}]}}"#);
    let writer = format!(
        r#"["null",{},{}]"#,
        inner("a.X", r#"{"name":"v","type":"int"}"#),
        inner("a.Y", r#"{"name":"w","type":"int"}"#)
    );
    let reader = format!(
        r#"["null",{},{}]"#,
        inner("b.Y", r#"{"name":"w","type":"long"}"#),
        inner("b.X", r#"{"name":"v","type":"long"}"#)
    );
    assert!(can_read(&schema(&reader), &schema(&writer)).is_empty());
    assert_eq!(read(&writer, json!({ "v": 4 }), &reader), Ok(json!({ "v": 4 })));
}
