//! Verdicts of Avro for Java's `SchemaCompatibility` (its `TestSchemaCompatibility*` and `TestSchemas`)
//! and of Confluent's documentation, as a table.

use std::collections::BTreeSet;

use headwater_schema::{CompatibilityLevel, can_read, check};

use crate::schema;

const INT: &str = r#""int""#;
const LONG: &str = r#""long""#;
const FLOAT: &str = r#""float""#;
const DOUBLE: &str = r#""double""#;
const STRING: &str = r#""string""#;
const BYTES: &str = r#""bytes""#;
const NULL: &str = r#""null""#;
const BOOLEAN: &str = r#""boolean""#;
const INT_ARRAY: &str = r#"{"type":"array","items":"int"}"#;
const LONG_ARRAY: &str = r#"{"type":"array","items":"long"}"#;
const STRING_ARRAY: &str = r#"{"type":"array","items":"string"}"#;
const INT_MAP: &str = r#"{"type":"map","values":"int"}"#;
const LONG_MAP: &str = r#"{"type":"map","values":"long"}"#;
const STRING_MAP: &str = r#"{"type":"map","values":"string"}"#;
const ENUM1_AB: &str = r#"{"type":"enum","name":"Enum1","symbols":["A","B"]}"#;
const ENUM1_AB_DEFAULT: &str = r#"{"type":"enum","name":"Enum1","symbols":["A","B"],"default":"A"}"#;
const ENUM1_ABC: &str = r#"{"type":"enum","name":"Enum1","symbols":["A","B","C"]}"#;
const ENUM1_BC: &str = r#"{"type":"enum","name":"Enum1","symbols":["B","C"]}"#;
const ENUM2_AB: &str = r#"{"type":"enum","name":"Enum2","symbols":["A","B"]}"#;
const ENUM1_AB_NS1: &str = r#"{"type":"enum","name":"Enum1","namespace":"one","symbols":["A","B"]}"#;
const ENUM1_AB_NS2: &str = r#"{"type":"enum","name":"Enum1","namespace":"two","symbols":["A","B"]}"#;
const FIXED_4: &str = r#"{"type":"fixed","name":"Fixed","size":4}"#;
const FIXED_8: &str = r#"{"type":"fixed","name":"Fixed","size":8}"#;
const OTHER_FIXED_4: &str = r#"{"type":"fixed","name":"Other","size":4}"#;
const EMPTY_RECORD1: &str = r#"{"type":"record","name":"Record1","fields":[]}"#;
const EMPTY_RECORD2: &str = r#"{"type":"record","name":"Record2","fields":[]}"#;
const A_INT: &str = r#"{"type":"record","name":"Record1","fields":[{"name":"a","type":"int"}]}"#;
const A_LONG: &str = r#"{"type":"record","name":"Record1","fields":[{"name":"a","type":"long"}]}"#;
const A_STRING: &str = r#"{"type":"record","name":"Record1","fields":[{"name":"a","type":"string"}]}"#;
const A_DINT: &str = r#"{"type":"record","name":"Record1","fields":[{"name":"a","type":"int","default":0}]}"#;
const A_INT_B_INT: &str =
    r#"{"type":"record","name":"Record1","fields":[{"name":"a","type":"int"},{"name":"b","type":"int"}]}"#;
const A_INT_B_DINT: &str = r#"{"type":"record","name":"Record1","fields":[{"name":"a","type":"int"},{"name":"b","type":"int","default":0}]}"#;
const A_DINT_B_DINT: &str = r#"{"type":"record","name":"Record1","fields":[{"name":"a","type":"int","default":0},{"name":"b","type":"int","default":0}]}"#;
const A_ALIAS: &str =
    r#"{"type":"record","name":"Record1","fields":[{"name":"x","aliases":["a"],"type":"int"}]}"#;
const A_OPTION: &str =
    r#"{"type":"record","name":"Record1","fields":[{"name":"a","type":["null","int"],"default":null}]}"#;
const RECORD2_ALIAS: &str =
    r#"{"type":"record","name":"Record2","aliases":["Record1"],"fields":[{"name":"a","type":"int"}]}"#;
const RECORD1_NS: &str =
    r#"{"type":"record","name":"Record1","namespace":"ns","fields":[{"name":"a","type":"int"}]}"#;
const FIELD_ENUM_DEFAULT: &str = r#"{"type":"record","name":"Record1","fields":[{"name":"e","type":{"type":"enum","name":"E","symbols":["A"],"default":"A"}}]}"#;
const INT_LIST: &str = r#"{"type":"record","name":"List","fields":[{"name":"head","type":"int"},{"name":"tail","type":"List"}]}"#;
const LONG_LIST: &str = r#"{"type":"record","name":"List","fields":[{"name":"head","type":"long"},{"name":"tail","type":"List"}]}"#;
const NESTED: &str = r#"{"type":"record","name":"Outer","fields":[{"name":"in","type":{"type":"record","name":"Inner","fields":[{"name":"v","type":"int"}]}}]}"#;
const NESTED_STRING: &str = r#"{"type":"record","name":"Outer","fields":[{"name":"in","type":{"type":"record","name":"Inner","fields":[{"name":"v","type":"string"}]}}]}"#;
const INNER_NS1: &str = r#"{"type":"record","name":"Record1","fields":[{"name":"f","type":["null",{"type":"array","items":{"type":"record","name":"Inner","namespace":"ns1","fields":[{"name":"a","type":"int"}]}}]}]}"#;
const INNER_NS2: &str = r#"{"type":"record","name":"Record1","fields":[{"name":"f","type":["null",{"type":"array","items":{"type":"record","name":"Inner","namespace":"ns2","fields":[{"name":"a","type":"int"}]}}]}]}"#;

const MISSING_DEFAULT: &str = "READER_FIELD_MISSING_DEFAULT_VALUE";
const TYPE: &str = "TYPE_MISMATCH";
const NAME: &str = "NAME_MISMATCH";
const SYMBOLS: &str = "MISSING_ENUM_SYMBOLS";
const BRANCH: &str = "MISSING_UNION_BRANCH";
const SIZE: &str = "FIXED_SIZE_MISMATCH";

/// Reader, writer, and the rules that are broken, each with its place.
type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

#[rustfmt::skip]
const CASES: &[Case] = &[
    // Primitive types and their promotions.
    (BOOLEAN, BOOLEAN, &[]), (INT, INT, &[]), (LONG, INT, &[]), (LONG, LONG, &[]), (FLOAT, INT, &[]), (FLOAT, LONG, &[]),
    (DOUBLE, LONG, &[]), (DOUBLE, INT, &[]), (DOUBLE, FLOAT, &[]), (STRING, STRING, &[]), (BYTES, BYTES, &[]), (NULL, NULL, &[]),
    (STRING, BYTES, &[]), (BYTES, STRING, &[]),
    (NULL, INT, &[(TYPE, "")]), (NULL, LONG, &[(TYPE, "")]), (BOOLEAN, INT, &[(TYPE, "")]), (INT, NULL, &[(TYPE, "")]),
    (INT, BOOLEAN, &[(TYPE, "")]), (INT, LONG, &[(TYPE, "")]), (INT, FLOAT, &[(TYPE, "")]), (INT, DOUBLE, &[(TYPE, "")]),
    (LONG, FLOAT, &[(TYPE, "")]), (LONG, DOUBLE, &[(TYPE, "")]), (FLOAT, DOUBLE, &[(TYPE, "")]), (DOUBLE, STRING, &[(TYPE, "")]),
    (STRING, DOUBLE, &[(TYPE, "")]), (FIXED_4, STRING, &[(TYPE, "")]), (STRING, FIXED_4, &[(TYPE, "")]), (BYTES, INT, &[(TYPE, "")]),
    (STRING, BOOLEAN, &[(TYPE, "")]), (STRING, INT, &[(TYPE, "")]), (BYTES, NULL, &[(TYPE, "")]),
    // Arrays and maps.
    (INT_ARRAY, INT_ARRAY, &[]), (LONG_ARRAY, INT_ARRAY, &[]), (INT_MAP, INT_MAP, &[]), (LONG_MAP, INT_MAP, &[]),
    (INT_ARRAY, LONG_ARRAY, &[(TYPE, "/items")]), (INT_MAP, INT_ARRAY, &[(TYPE, "")]), (INT_ARRAY, INT_MAP, &[(TYPE, "")]),
    (INT_MAP, LONG_MAP, &[(TYPE, "/values")]), (STRING_ARRAY, INT_ARRAY, &[(TYPE, "/items")]), (INT_MAP, STRING_MAP, &[(TYPE, "/values")]),
    (INT_ARRAY, INT, &[(TYPE, "")]), (INT_MAP, ENUM2_AB, &[(TYPE, "")]),
    // Enums.
    (ENUM1_AB, ENUM1_AB, &[]), (ENUM1_ABC, ENUM1_AB, &[]), (ENUM1_AB_DEFAULT, ENUM1_ABC, &[]), (ENUM1_AB_NS1, ENUM1_AB_NS2, &[]),
    (ENUM1_AB, ENUM1_ABC, &[(SYMBOLS, "/symbols")]), (ENUM1_BC, ENUM1_ABC, &[(SYMBOLS, "/symbols")]),
    (ENUM1_AB, ENUM2_AB, &[(NAME, "/name")]), (ENUM2_AB, ENUM1_ABC, &[(NAME, "/name"), (SYMBOLS, "/symbols")]),
    (ENUM1_AB, INT, &[(TYPE, "")]), (STRING, ENUM1_AB, &[(TYPE, "")]), (INT, ENUM2_AB, &[(TYPE, "")]),
    // Fixed.
    (FIXED_4, FIXED_4, &[]), (FIXED_4, FIXED_8, &[(SIZE, "/size")]), (FIXED_8, FIXED_4, &[(SIZE, "/size")]),
    (FIXED_4, OTHER_FIXED_4, &[(NAME, "/name")]), (FIXED_8, OTHER_FIXED_4, &[(NAME, "/name"), (SIZE, "/size")]),
    (FIXED_4, BYTES, &[(TYPE, "")]),
    // Unions.
    ("[]", "[]", &[]), (r#"["float"]"#, "[]", &[]), (r#"["int"]"#, r#"["int"]"#, &[]), (r#"["float"]"#, r#"["int"]"#, &[]),
    (r#"["int","string"]"#, r#"["string","int"]"#, &[]), (r#"["long"]"#, r#"["int"]"#, &[]), (r#"["double"]"#, r#"["int","float"]"#, &[]),
    (r#"["string"]"#, r#"["bytes"]"#, &[]), (r#"["bytes"]"#, r#"["string"]"#, &[]), (r#"["null","string"]"#, r#""string""#, &[]),
    (FLOAT, r#"["int","float"]"#, &[]), (LONG, r#"["int","long"]"#, &[]), (DOUBLE, r#"["int","long","float","double"]"#, &[]),
    (FLOAT, r#"["float"]"#, &[]), (r#"["int"]"#, INT, &[]), (INT, r#"["int"]"#, &[]),
    (r#"["int"]"#, r#"["int","string"]"#, &[(BRANCH, "/1")]), (r#"["string"]"#, r#"["long"]"#, &[(BRANCH, "/0")]),
    (r#"["int","string"]"#, r#"["int","string","long"]"#, &[(BRANCH, "/2")]), (r#"["null","string"]"#, INT, &[(BRANCH, "")]),
    (STRING, r#"["null","string"]"#, &[(TYPE, "")]), (INT, r#"["int","long"]"#, &[(TYPE, "")]),
    (FLOAT, r#"["int","double"]"#, &[(TYPE, "")]), (r#"["int"]"#, r#"["long","float"]"#, &[(BRANCH, "/0"), (BRANCH, "/1")]),
    (r#"["null",{"type":"array","items":"int"}]"#, r#"["null",{"type":"map","values":"int"}]"#, &[(BRANCH, "/1")]),
    // Records.
    (EMPTY_RECORD1, EMPTY_RECORD1, &[]), (EMPTY_RECORD1, A_INT, &[]), (A_INT, A_INT, &[]), (A_DINT, A_INT, &[]), (A_DINT, A_DINT, &[]),
    (A_INT, A_DINT, &[]), (A_LONG, A_INT, &[]), (A_INT, A_INT_B_INT, &[]), (A_DINT, A_INT_B_INT, &[]), (A_INT_B_DINT, A_INT, &[]),
    (A_DINT_B_DINT, EMPTY_RECORD1, &[]), (A_DINT_B_DINT, A_INT, &[]), (A_INT_B_INT, A_DINT_B_DINT, &[]), (A_OPTION, A_INT, &[]),
    (A_OPTION, EMPTY_RECORD1, &[]), (RECORD1_NS, A_INT, &[]), (A_INT, RECORD1_NS, &[]), (INNER_NS1, INNER_NS2, &[]),
    (A_INT_B_INT, A_INT, &[(MISSING_DEFAULT, "/fields/1")]), (A_INT_B_INT, EMPTY_RECORD1, &[(MISSING_DEFAULT, "/fields/0"), (MISSING_DEFAULT, "/fields/1")]),
    (A_INT_B_DINT, EMPTY_RECORD1, &[(MISSING_DEFAULT, "/fields/0")]), (EMPTY_RECORD1, EMPTY_RECORD2, &[(NAME, "/name")]),
    (A_INT, EMPTY_RECORD2, &[(NAME, "/name"), (MISSING_DEFAULT, "/fields/0")]), (A_INT, A_LONG, &[(TYPE, "/fields/0/type")]),
    (A_STRING, A_INT, &[(TYPE, "/fields/0/type")]), (A_INT, A_OPTION, &[(TYPE, "/fields/0/type")]), (A_INT, INT, &[(TYPE, "")]),
    // Only the reader's aliases count, and not a default of the field's enum.
    (A_ALIAS, A_INT, &[]), (A_INT, A_ALIAS, &[(MISSING_DEFAULT, "/fields/0")]), (RECORD2_ALIAS, A_INT, &[]),
    (A_INT, RECORD2_ALIAS, &[(NAME, "/name")]), (FIELD_ENUM_DEFAULT, EMPTY_RECORD1, &[(MISSING_DEFAULT, "/fields/0")]),
    // Recursion and nesting.
    (INT_LIST, INT_LIST, &[]), (LONG_LIST, INT_LIST, &[]), (INT_LIST, LONG_LIST, &[(TYPE, "/fields/0/type")]),
    (NESTED, NESTED, &[]), (NESTED_STRING, NESTED, &[(TYPE, "/fields/0/type/fields/0/type")]),
];

#[test]
fn verdicts_are_those_of_avro_for_java() {
    for (reader, writer, expected) in CASES {
        let found = can_read(&schema(reader), &schema(writer));
        let found: BTreeSet<(&str, &str)> =
            found.iter().map(|problem| (problem.rule, problem.path.as_str())).collect();
        assert_eq!(found, expected.iter().copied().collect(), "reader {reader}, writer {writer}");
    }
    assert!(CASES.len() >= 100);
}

#[test]
fn a_level_says_who_reads_whose_data() {
    use CompatibilityLevel::*;
    // Oldest first: `b` came without a default, was dropped, and comes again with one.
    let history = [schema(A_INT_B_INT), schema(A_INT)];
    let verdict = |level, new: &str| check(level, &schema(new), &history).is_empty();
    for (level, new, compatible) in [
        (Backward, A_INT_B_INT, false),
        (Backward, A_INT_B_DINT, true),
        (Backward, EMPTY_RECORD1, true),
        (Forward, A_INT_B_INT, true),
        (Forward, EMPTY_RECORD1, false),
        (Full, A_INT_B_DINT, true),
        (Full, A_INT_B_INT, false),
        (BackwardTransitive, A_INT_B_DINT, true),
        (BackwardTransitive, A_LONG, true),
        (ForwardTransitive, A_INT, false),
        (ForwardTransitive, A_INT_B_DINT, true),
        (Forward, A_INT, true),
        (FullTransitive, A_INT_B_DINT, true),
        (FullTransitive, A_INT, false),
        (None, STRING, true),
        (Backward, STRING, false),
    ] {
        assert_eq!(verdict(level, new), compatible, "{level} {new}");
    }
    assert!(check(FullTransitive, &schema(STRING), &[]).is_empty());
}

#[test]
fn a_verdict_says_what_to_change() {
    let found = check(CompatibilityLevel::Backward, &schema(A_INT_B_INT), &[schema(A_INT)]);
    assert_eq!(
        found[0].to_string(),
        "READER_FIELD_MISSING_DEFAULT_VALUE at /fields/1: field b of Record1 in the new schema is missing in the old schema and \
         has no default; give it a \"default\""
    );
}

#[test]
fn levels_are_spelled_as_confluent_does() {
    for name in [
        "BACKWARD",
        "BACKWARD_TRANSITIVE",
        "FORWARD",
        "FORWARD_TRANSITIVE",
        "FULL",
        "FULL_TRANSITIVE",
        "NONE",
    ] {
        assert_eq!(name.parse::<CompatibilityLevel>().unwrap().to_string(), name);
    }
    assert!("SIDEWAYS".parse::<CompatibilityLevel>().is_err());
    assert_eq!(CompatibilityLevel::default(), CompatibilityLevel::Backward);
}
