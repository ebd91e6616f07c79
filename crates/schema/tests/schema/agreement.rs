//! The same bytes and the same values as the `apache-avro` crate, for random schemas, values and changes.

use std::collections::BTreeMap;
use std::fmt;

use apache_avro::types::Value;
use apache_avro::{Schema, from_avro_datum, to_avro_datum};
use headwater_schema::{Resolver, can_read, encode};
use proptest::prelude::*;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::json;

use crate::schema;

#[derive(Debug, Clone, PartialEq)]
enum Type {
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(usize),
    Array(Box<Type>),
    Map(Box<Type>),
    Option(Box<Type>),
    Record(Vec<Field>),
}

#[derive(Debug, Clone, PartialEq)]
struct Field {
    name: String,
    kind: Type,
    default: Option<serde_json::Value>,
}

/// A value that both sides can be given, and both sides' results can be turned into.
#[derive(Debug, Clone, PartialEq)]
enum Datum {
    Null,
    Boolean(bool),
    Int(i32),
    Long(i64),
    Float(u32),
    Double(u64),
    Bytes(Vec<u8>),
    Text(String),
    List(Vec<Datum>),
    Entries(BTreeMap<String, Datum>),
}

const SYMBOLS: [&str; 4] = ["A", "B", "C", "D"];

fn types() -> impl Strategy<Value = Type> {
    let leaf = prop_oneof![
        Just(Type::Boolean),
        Just(Type::Int),
        Just(Type::Long),
        Just(Type::Float),
        Just(Type::Double),
        Just(Type::Bytes),
        Just(Type::String),
        (0_usize..5).prop_map(Type::Fixed),
        (1_usize..=4).prop_map(Type::Enum),
    ];
    leaf.prop_recursive(3, 16, 5, |inner| {
        prop_oneof![
            inner.clone().prop_map(|kind| Type::Array(Box::new(kind))),
            inner.clone().prop_map(|kind| Type::Map(Box::new(kind))),
            inner.clone().prop_map(|kind| match kind {
                Type::Option(_) => kind,
                kind => Type::Option(Box::new(kind)),
            }),
            records(inner),
        ]
    })
}

fn records(inner: impl Strategy<Value = Type>) -> impl Strategy<Value = Type> {
    proptest::collection::vec(inner, 0..5).prop_map(|kinds| {
        let field = |(index, kind)| Field { name: format!("f{index}"), kind, default: None };
        Type::Record(kinds.into_iter().enumerate().map(field).collect())
    })
}

fn values(kind: &Type) -> BoxedStrategy<Datum> {
    match kind {
        Type::Boolean => any::<bool>().prop_map(Datum::Boolean).boxed(),
        Type::Int => any::<i32>().prop_map(Datum::Int).boxed(),
        Type::Long => any::<i64>().prop_map(Datum::Long).boxed(),
        Type::Float => any::<f32>().prop_map(|value| Datum::Float(value.to_bits())).boxed(),
        Type::Double => any::<f64>().prop_map(|value| Datum::Double(value.to_bits())).boxed(),
        Type::Bytes => any::<Vec<u8>>().prop_map(Datum::Bytes).boxed(),
        Type::String => ".{0,8}".prop_map(Datum::Text).boxed(),
        Type::Fixed(size) => proptest::collection::vec(any::<u8>(), *size).prop_map(Datum::Bytes).boxed(),
        Type::Enum(count) => (0..*count).prop_map(|index| Datum::Text(SYMBOLS[index].to_owned())).boxed(),
        Type::Array(inner) => proptest::collection::vec(values(inner), 0..4).prop_map(Datum::List).boxed(),
        // apache-avro keeps maps in hash order, so only small ones have one form.
        Type::Map(inner) => proptest::collection::btree_map("[a-z]{0,3}", values(inner), 0..2)
            .prop_map(Datum::Entries)
            .boxed(),
        Type::Option(inner) => prop_oneof![1 => Just(Datum::Null), 3 => values(inner)].boxed(),
        Type::Record(fields) => {
            let one = |field: &Field| (Just(field.name.clone()), values(&field.kind));
            fields
                .iter()
                .map(one)
                .collect::<Vec<_>>()
                .prop_map(|fields| Datum::Entries(fields.into_iter().collect()))
                .boxed()
        }
    }
}

/// Named types are called after their place, so that each name is there once.
fn text(kind: &Type, place: &str) -> serde_json::Value {
    match kind {
        Type::Boolean => json!("boolean"),
        Type::Int => json!("int"),
        Type::Long => json!("long"),
        Type::Float => json!("float"),
        Type::Double => json!("double"),
        Type::Bytes => json!("bytes"),
        Type::String => json!("string"),
        Type::Fixed(size) => json!({ "type": "fixed", "name": format!("F{place}"), "size": size }),
        Type::Enum(count) => {
            json!({ "type": "enum", "name": format!("E{place}"), "symbols": SYMBOLS[..*count], "default": "A" })
        }
        Type::Array(inner) => json!({ "type": "array", "items": text(inner, &format!("{place}i")) }),
        Type::Map(inner) => json!({ "type": "map", "values": text(inner, &format!("{place}v")) }),
        Type::Option(inner) => json!(["null", text(inner, place)]),
        Type::Record(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|field| {
                    let mut shown = json!({ "name": field.name, "type": text(&field.kind, &format!("{place}_{}", field.name)) });
                    if let Some(default) = &field.default {
                        shown["default"] = default.clone();
                    }
                    shown
                })
                .collect();
            json!({ "type": "record", "name": format!("R{place}"), "fields": fields })
        }
    }
}

/// A reader's schema that is the writer's with changes; each choice decides one.
fn changed(kind: &Type, choices: &mut impl Iterator<Item = u8>) -> Type {
    let choice = choices.next().unwrap_or(0);
    match kind {
        Type::Int if choice % 4 == 1 => Type::Long,
        Type::Int if choice % 4 == 2 => Type::Double,
        Type::Long if choice % 4 == 1 => Type::Double,
        Type::Float if choice % 4 == 1 => Type::Double,
        Type::Enum(count) if choice % 4 == 1 => Type::Enum((*count).max(2) - 1),
        Type::Array(inner) => Type::Array(Box::new(changed(inner, choices))),
        Type::Map(inner) => Type::Map(Box::new(changed(inner, choices))),
        Type::Record(fields) => {
            let mut kept: Vec<Field> = Vec::new();
            for field in fields {
                match choices.next().unwrap_or(0) % 3 {
                    1 => {}
                    _ => kept.push(Field { kind: changed(&field.kind, choices), ..field.clone() }),
                }
            }
            if choice % 2 == 1 {
                kept.push(Field { name: "added".into(), kind: Type::Long, default: Some(json!(7)) });
                kept.push(Field {
                    name: "list".into(),
                    kind: Type::Array(Box::new(Type::String)),
                    default: Some(json!(["x"])),
                });
                kept.reverse();
            }
            Type::Record(kept)
        }
        other => other.clone(),
    }
}

fn to_apache(kind: &Type, datum: &Datum) -> Value {
    match (kind, datum) {
        (Type::Option(_), Datum::Null) => Value::Union(0, Box::new(Value::Null)),
        (Type::Option(inner), datum) => Value::Union(1, Box::new(to_apache(inner, datum))),
        (_, Datum::Boolean(value)) => Value::Boolean(*value),
        (_, Datum::Int(value)) => Value::Int(*value),
        (_, Datum::Long(value)) => Value::Long(*value),
        (_, Datum::Float(bits)) => Value::Float(f32::from_bits(*bits)),
        (_, Datum::Double(bits)) => Value::Double(f64::from_bits(*bits)),
        (Type::Fixed(size), Datum::Bytes(bytes)) => Value::Fixed(*size, bytes.clone()),
        (_, Datum::Bytes(bytes)) => Value::Bytes(bytes.clone()),
        (Type::Enum(_), Datum::Text(symbol)) => {
            Value::Enum(SYMBOLS.iter().position(|s| s == symbol).unwrap() as u32, symbol.clone())
        }
        (_, Datum::Text(text)) => Value::String(text.clone()),
        (Type::Array(inner), Datum::List(items)) => {
            Value::Array(items.iter().map(|item| to_apache(inner, item)).collect())
        }
        (Type::Map(inner), Datum::Entries(entries)) => {
            Value::Map(entries.iter().map(|(key, value)| (key.clone(), to_apache(inner, value))).collect())
        }
        (Type::Record(fields), Datum::Entries(entries)) => Value::Record(
            fields
                .iter()
                .map(|field| (field.name.clone(), to_apache(&field.kind, &entries[&field.name])))
                .collect(),
        ),
        (kind, datum) => panic!("{datum:?} is no {kind:?}"),
    }
}

fn from_apache(value: Value) -> Datum {
    match value {
        Value::Null => Datum::Null,
        Value::Boolean(value) => Datum::Boolean(value),
        Value::Int(value) => Datum::Int(value),
        Value::Long(value) => Datum::Long(value),
        Value::Float(value) => Datum::Float(value.to_bits()),
        Value::Double(value) => Datum::Double(value.to_bits()),
        Value::Bytes(bytes) | Value::Fixed(_, bytes) => Datum::Bytes(bytes),
        Value::String(text) | Value::Enum(_, text) => Datum::Text(text),
        Value::Union(_, inner) => from_apache(*inner),
        Value::Array(items) => Datum::List(items.into_iter().map(from_apache).collect()),
        Value::Map(entries) => {
            Datum::Entries(entries.into_iter().map(|(key, value)| (key, from_apache(value))).collect())
        }
        Value::Record(fields) => {
            Datum::Entries(fields.into_iter().map(|(key, value)| (key, from_apache(value))).collect())
        }
        other => panic!("{other:?}"),
    }
}

/// As serde's data model has it; records go as maps, in the order of their names.
impl Serialize for Datum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_none(),
            Self::Boolean(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i32(*value),
            Self::Long(value) => serializer.serialize_i64(*value),
            Self::Float(bits) => serializer.serialize_f32(f32::from_bits(*bits)),
            Self::Double(bits) => serializer.serialize_f64(f64::from_bits(*bits)),
            Self::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Entries(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries.iter().rev() {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Datum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Datum;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_unit<E>(self) -> Result<Datum, E> {
                Ok(Datum::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Datum, E> {
                Ok(Datum::Boolean(value))
            }
            fn visit_i32<E>(self, value: i32) -> Result<Datum, E> {
                Ok(Datum::Int(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Datum, E> {
                Ok(Datum::Long(value))
            }
            fn visit_f32<E>(self, value: f32) -> Result<Datum, E> {
                Ok(Datum::Float(value.to_bits()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Datum, E> {
                Ok(Datum::Double(value.to_bits()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Datum, E> {
                Ok(Datum::Text(value.to_owned()))
            }
            fn visit_bytes<E>(self, value: &[u8]) -> Result<Datum, E> {
                Ok(Datum::Bytes(value.to_vec()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Datum, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = access.next_element()? {
                    items.push(item);
                }
                Ok(Datum::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Datum, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((key, value)) = access.next_entry()? {
                    entries.insert(key, value);
                }
                Ok(Datum::Entries(entries))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

fn cases() -> impl Strategy<Value = (Type, Datum, Vec<u8>)> {
    records(types()).prop_flat_map(|kind| {
        let values = values(&kind);
        (Just(kind), values, proptest::collection::vec(any::<u8>(), 30))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn bytes_and_values_are_apache_avros((kind, datum, choices) in cases()) {
        let text_of_writer = text(&kind, "").to_string();
        let (ours, theirs) = (schema(&text_of_writer), Schema::parse_str(&text_of_writer).unwrap());
        let body = encode(&ours, &datum).unwrap();
        let expected = to_avro_datum(&theirs, to_apache(&kind, &datum)).unwrap();
        prop_assert_eq!(&body, &expected, "{}", text_of_writer);
        let decoded: Datum = Resolver::new(&ours, &ours).unwrap().decode(&body).unwrap();
        prop_assert_eq!(&decoded, &datum);

        let text_of_reader = text(&changed(&kind, &mut choices.into_iter()), "").to_string();
        let (our_reader, their_reader) = (schema(&text_of_reader), Schema::parse_str(&text_of_reader).unwrap());
        prop_assert!(can_read(&our_reader, &ours).is_empty());
        let resolved: Datum = Resolver::new(&ours, &our_reader).unwrap().decode(&body).unwrap();
        let expected = from_avro_datum(&theirs, &mut &body[..], Some(&their_reader)).unwrap();
        prop_assert_eq!(resolved, from_apache(expected), "{} read as {}", text_of_writer, text_of_reader);
    }
}
