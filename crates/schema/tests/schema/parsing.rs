//! Which texts are schemas, and how a schema is printed.

use headwater_schema::AvroSchema;

use crate::schema;

#[test]
fn the_canonical_text_is_that_of_avro_for_java() {
    for (text, canonical) in [
        (r#" { "type" : "int" } "#, r#""int""#),
        (
            r#"{"type":"long","logicalType":"timestamp-millis"}"#,
            r#"{"type":"long","logicalType":"timestamp-millis"}"#,
        ),
        (
            r#"{"namespace":"io.x","doc":"d","name":"A","fields":[{"type":["null","io.x.A"],"default":null,"name":"next"}],"type":"record"}"#,
            r#"{"type":"record","name":"A","namespace":"io.x","doc":"d","fields":[{"name":"next","type":["null","A"],"default":null}]}"#,
        ),
        (
            r#"{"type":"record","name":"x.A","fields":[{"name":"b","type":{"type":"enum","name":"y.B","symbols":["S"],"default":"S"}},{"name":"c","type":"y.B","order":"ignore","aliases":["d"]}]}"#,
            r#"{"type":"record","name":"A","namespace":"x","fields":[{"name":"b","type":{"type":"enum","name":"B","namespace":"y","symbols":["S"],"default":"S"}},{"name":"c","type":"y.B","order":"ignore","aliases":["d"]}]}"#,
        ),
    ] {
        assert_eq!(schema(text).canonical(), canonical);
        assert_eq!(schema(canonical).canonical(), canonical);
    }
}

#[test]
fn schemas_that_differ_in_a_default_are_different() {
    let with = |default: &str| {
        schema(&format!(r#"{{"type":"record","name":"A","fields":[{{"name":"a","type":"int"{default}}}]}}"#))
    };
    assert_ne!(with(""), with(r#","default":1"#));
    assert_eq!(with(r#","default":1"#), with(r#", "default" : 1"#));
}

#[test]
fn a_name_takes_the_namespace_it_stands_in() {
    let text = r#"{"type":"record","name":"a.b.C","fields":[{"name":"d","type":{"type":"fixed","name":"D","size":2}},{"name":"e","type":"a.b.D"}]}"#;
    assert_eq!(schema(text).name(), Some("a.b.C"));
    assert_eq!(schema("\"string\"").name(), None);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (text, told) in [
        ("int", "the schema is not JSON"),
        ("3", "neither a type's name"),
        (r#""Missing""#, "there is no type Missing"),
        (r#"{"name":"A"}"#, "without \"type\""),
        (r#"{"type":"record","name":"A"}"#, "no list of \"fields\""),
        (r#"{"type":"record","name":"1A","fields":[]}"#, "is no name"),
        (r#"{"type":"record","name":"A","fields":[{"name":"a"}]}"#, "at /fields/0: field a has no \"type\""),
        (
            r#"{"type":"record","name":"A","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#,
            "field a twice",
        ),
        (
            r#"{"type":"record","name":"A","fields":[{"name":"a","type":"int","default":"x"}]}"#,
            "default \"x\" of A.a does not fit",
        ),
        (
            r#"{"type":"record","name":"A","fields":[{"name":"a","type":{"type":"record","name":"A","fields":[]}}]}"#,
            "defined twice",
        ),
        (r#"["int","int"]"#, "the union has int twice"),
        (r#"["int",["null"]]"#, "may not contain a union"),
        (r#"{"type":"enum","name":"E","symbols":["A","A"]}"#, "symbol A twice"),
        (r#"{"type":"enum","name":"E","symbols":["A"],"default":"B"}"#, "none of its symbols"),
        (r#"{"type":"fixed","name":"F","size":-1}"#, "needs a \"size\""),
        (r#"{"type":"array"}"#, "\"items\" is missing"),
        (r#"{"type":"record","name":"A","fields":[{"name":"n","type":"A","default":{}}]}"#, "nested deeper"),
    ] {
        let error = AvroSchema::parse(text).expect_err(text).to_string();
        assert!(error.contains(told), "{text}: {error}");
    }
}

#[test]
fn a_default_may_suit_any_branch_of_a_union() {
    let text =
        r#"{"type":"record","name":"A","fields":[{"name":"a","type":["null","string"],"default":"x"}]}"#;
    assert!(AvroSchema::parse(text).is_ok());
}
