//! JSON text to [`Types`], with Avro's rules for names, references, unions and defaults.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::SchemaError;
use crate::json_writer::{Allowance, Writer};
use crate::node::{Enum, Field, Fixed, Kind, Name, Node, NodeId, Record, Types};

/// Larger texts are refused before they are read.
const MAX_TEXT: usize = 1 << 20;
const MAX_FIXED: u64 = 1 << 24;
/// Of all defaults of a schema together: an empty one may stand for ever more values, type within type.
const DEFAULTS: Allowance = Allowance { values: 1 << 20, bytes: 4 << 20 };
const SCHEMA_ATTRIBUTES: [&str; 6] = ["type", "name", "namespace", "doc", "aliases", "fields"];
const FIELD_ATTRIBUTES: [&str; 6] = ["name", "type", "doc", "default", "order", "aliases"];

pub fn parse(text: &str) -> Result<Types, SchemaError> {
    if text.len() > MAX_TEXT {
        return Err(SchemaError::TooLarge { size: text.len(), limit: MAX_TEXT });
    }
    let json: Value =
        serde_json::from_str(text).map_err(|error| SchemaError::NotJson { reason: error.to_string() })?;
    let mut parser = Parser::default();
    let root = parser.schema(&json, "")?;
    let key = parser.push(Node::plain(Kind::String));
    let byte = parser.push(Node::plain(Kind::Int));
    // Every reserved place is filled by now: a named type is complete when its definition ends.
    let nodes =
        parser.nodes.into_iter().map(|node| node.unwrap_or_else(|| Node::plain(Kind::Null))).collect();
    let mut types = Types { nodes, root, key, byte };
    encode_defaults(&mut types)?;
    Ok(types)
}

#[derive(Default)]
struct Parser {
    /// `None`: a named type whose definition is being read.
    nodes: Vec<Option<Node>>,
    names: HashMap<String, NodeId>,
}

impl Node {
    fn plain(kind: Kind) -> Self {
        Self { kind, attributes: Map::new() }
    }
}

impl Parser {
    fn schema(&mut self, json: &Value, namespace: &str) -> Result<NodeId, SchemaError> {
        match json {
            Value::String(name) => match Kind::primitive(name) {
                Some(kind) => Ok(self.push(Node::plain(kind))),
                None => self.reference(name, namespace),
            },
            Value::Array(branches) => self.union(branches, namespace),
            Value::Object(object) => self.object(object, namespace),
            other => Err(SchemaError::invalid(format_args!(
                "{other} is neither a type's name, an object nor a list of types"
            ))),
        }
    }

    fn push(&mut self, node: Node) -> NodeId {
        self.nodes.push(Some(node));
        NodeId((self.nodes.len() - 1) as u32)
    }

    fn reference(&self, name: &str, namespace: &str) -> Result<NodeId, SchemaError> {
        let full = qualified(name, namespace);
        // A simple name may also mean a type without a namespace, as in Avro for Java.
        self.names.get(&full).or_else(|| self.names.get(name)).copied().ok_or_else(|| {
            SchemaError::invalid(format_args!(
                "there is no type {full}; define it before it is used, or correct the name"
            ))
        })
    }

    fn union(&mut self, branches: &[Value], namespace: &str) -> Result<NodeId, SchemaError> {
        let mut ids = Vec::with_capacity(branches.len());
        let mut seen = std::collections::HashSet::new();
        for (index, branch) in branches.iter().enumerate() {
            let id = self.schema(branch, namespace).map_err(|error| error.at(index))?;
            // A reserved place is a record under definition; its name was put into `names`.
            let name = match &self.nodes[id.0 as usize] {
                Some(node) if matches!(node.kind, Kind::Union(_)) => {
                    return Err(SchemaError::invalid("a union may not contain a union").at(index));
                }
                Some(node) => node.kind.branch_name().to_owned(),
                None => format!("\0{}", id.0),
            };
            if !seen.insert(name.clone()) {
                return Err(SchemaError::invalid(format_args!("the union has {name} twice")).at(index));
            }
            ids.push(id);
        }
        Ok(self.push(Node::plain(Kind::Union(ids))))
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<NodeId, SchemaError> {
        let type_name = match object.get("type") {
            Some(Value::String(name)) => name.as_str(),
            Some(nested) => return self.schema(nested, namespace),
            None => return Err(SchemaError::invalid("an object without \"type\"")),
        };
        match type_name {
            "record" | "error" | "enum" | "fixed" => self.named(type_name, object, namespace),
            "array" => self.container(object, "items", namespace, Kind::Array),
            "map" => self.container(object, "values", namespace, Kind::Map),
            _ => match Kind::primitive(type_name) {
                Some(kind) => {
                    Ok(self.push(Node { kind, attributes: extra(object, &SCHEMA_ATTRIBUTES, &[]) }))
                }
                None => self.reference(type_name, namespace),
            },
        }
    }

    fn container(
        &mut self,
        object: &Map<String, Value>,
        of: &'static str,
        namespace: &str,
        kind: fn(NodeId) -> Kind,
    ) -> Result<NodeId, SchemaError> {
        let inner =
            object.get(of).ok_or_else(|| SchemaError::invalid(format_args!("\"{of}\" is missing")))?;
        let inner = self.schema(inner, namespace).map_err(|error| error.at(of))?;
        Ok(self.push(Node { kind: kind(inner), attributes: extra(object, &SCHEMA_ATTRIBUTES, &[of]) }))
    }

    fn named(
        &mut self,
        type_name: &str,
        object: &Map<String, Value>,
        namespace: &str,
    ) -> Result<NodeId, SchemaError> {
        let name = type_full_name(object, namespace)?;
        let id = NodeId(self.nodes.len() as u32);
        if self.names.insert(name.full.clone(), id).is_some() {
            return Err(SchemaError::invalid(format_args!(
                "{} is defined twice; refer to it by its name",
                name.full
            )));
        }
        self.nodes.push(None);
        let aliases = strings(object, "aliases")?;
        let aliases = aliases.iter().map(|alias| qualified(alias, name.namespace())).collect();
        let (kind, own): (Kind, &[&str]) = match type_name {
            "enum" => (Kind::Enum(enumeration(object, name, aliases)?), &["symbols", "default"]),
            "fixed" => (Kind::Fixed(fixed(object, name, aliases)?), &["size"]),
            _ => (Kind::Record(self.record(object, name, aliases, type_name == "error")?), &[]),
        };
        self.nodes[id.0 as usize] = Some(Node { kind, attributes: extra(object, &SCHEMA_ATTRIBUTES, own) });
        Ok(id)
    }

    fn record(
        &mut self,
        object: &Map<String, Value>,
        name: Name,
        aliases: Vec<String>,
        error: bool,
    ) -> Result<Record, SchemaError> {
        let Some(Value::Array(list)) = object.get("fields") else {
            return Err(SchemaError::invalid(format_args!("record {} has no list of \"fields\"", name.full)));
        };
        let mut fields = Vec::with_capacity(list.len());
        let mut by_name = HashMap::with_capacity(list.len());
        for (index, field) in list.iter().enumerate() {
            let at = |error: SchemaError| error.at(index).at("fields");
            let field = self.field(field, name.namespace()).map_err(at)?;
            if by_name.insert(field.name.clone(), index).is_some() {
                return Err(at(SchemaError::invalid(format_args!(
                    "{} has field {} twice",
                    name.full, field.name
                ))));
            }
            fields.push(field);
        }
        Ok(Record { name, aliases, doc: text(object, "doc"), error, fields, by_name })
    }

    fn field(&mut self, json: &Value, namespace: &str) -> Result<Field, SchemaError> {
        let object = json.as_object().ok_or_else(|| SchemaError::invalid("a field is an object"))?;
        let name = text(object, "name").ok_or_else(|| SchemaError::invalid("a field without \"name\""))?;
        check_name(&name)?;
        let schema = object
            .get("type")
            .ok_or_else(|| SchemaError::invalid(format_args!("field {name} has no \"type\"")))?;
        let node = self.schema(schema, namespace).map_err(|error| error.at("type"))?;
        let order = text(object, "order");
        if let Some(order) =
            order.as_deref().filter(|order| !["ascending", "descending", "ignore"].contains(order))
        {
            return Err(SchemaError::invalid(format_args!(
                "order {order} is not ascending, descending or ignore"
            )));
        }
        Ok(Field {
            name,
            aliases: strings(object, "aliases")?,
            doc: text(object, "doc"),
            order,
            default: object.get("default").cloned(),
            default_bytes: None,
            node,
            attributes: extra(object, &FIELD_ATTRIBUTES, &[]),
        })
    }
}

fn enumeration(object: &Map<String, Value>, name: Name, aliases: Vec<String>) -> Result<Enum, SchemaError> {
    if !object.contains_key("symbols") {
        return Err(SchemaError::invalid(format_args!("enum {} has no \"symbols\"", name.full)));
    }
    let symbols = strings(object, "symbols")?;
    let mut by_symbol = HashMap::with_capacity(symbols.len());
    for (index, symbol) in symbols.iter().enumerate() {
        check_name(symbol)?;
        if by_symbol.insert(symbol.clone(), index).is_some() {
            return Err(SchemaError::invalid(format_args!("enum {} has symbol {symbol} twice", name.full)));
        }
    }
    let unknown = |default| {
        SchemaError::invalid(format_args!(
            "the default {default} of enum {} is none of its symbols",
            name.full
        ))
    };
    let default = match object.get("default") {
        None => None,
        Some(value) => {
            let index = value.as_str().and_then(|symbol| by_symbol.get(symbol));
            Some(*index.ok_or_else(|| unknown(value))?)
        }
    };
    Ok(Enum { name, aliases, doc: text(object, "doc"), symbols, by_symbol, default })
}

fn fixed(object: &Map<String, Value>, name: Name, aliases: Vec<String>) -> Result<Fixed, SchemaError> {
    let size =
        object.get("size").and_then(Value::as_u64).filter(|size| *size <= MAX_FIXED).ok_or_else(|| {
            SchemaError::invalid(format_args!(
                "fixed {} needs a \"size\" of 0 to {MAX_FIXED} bytes",
                name.full
            ))
        })?;
    Ok(Fixed { name, aliases, doc: text(object, "doc"), size: size as usize })
}

/// A default is checked by encoding it, which also makes it ready for readers.
fn encode_defaults(types: &mut Types) -> Result<(), SchemaError> {
    let (mut encoded, mut left) = (Vec::new(), DEFAULTS);
    for (index, node) in types.nodes.iter().enumerate() {
        let Kind::Record(record) = &node.kind else { continue };
        for (position, field) in record.fields.iter().enumerate() {
            let Some(default) = &field.default else { continue };
            let bytes = Writer::encode_within(types, field.node, default, &mut left).map_err(|error| {
                let place = format!("{}.{}", record.name.full, field.name);
                SchemaError::invalid(format_args!(
                    "the default {default} of {place} does not fit its type: {error}"
                ))
            })?;
            encoded.push((index, position, bytes));
        }
    }
    for (index, position, bytes) in encoded {
        if let Kind::Record(record) = &mut types.nodes[index].kind {
            record.fields[position].default_bytes = Some(bytes);
        }
    }
    Ok(())
}

fn type_full_name(object: &Map<String, Value>, enclosing: &str) -> Result<Name, SchemaError> {
    let name = text(object, "name")
        .ok_or_else(|| SchemaError::invalid("a record, enum or fixed without \"name\""))?;
    let namespace = text(object, "namespace");
    let full = qualified(&name, namespace.as_deref().unwrap_or(enclosing));
    full.split('.').try_for_each(check_name)?;
    if Kind::primitive(&full).is_some() {
        return Err(SchemaError::invalid(format_args!("{full} is the name of a primitive type")));
    }
    Ok(Name { full })
}

fn qualified(name: &str, namespace: &str) -> String {
    if namespace.is_empty() || name.contains('.') {
        name.trim_start_matches('.').to_owned()
    } else {
        format!("{namespace}.{name}")
    }
}

fn check_name(name: &str) -> Result<(), SchemaError> {
    let mut characters = name.chars();
    let begins = characters.next().is_some_and(|first| first.is_alphabetic() || first == '_');
    if begins && characters.all(|rest| rest.is_alphanumeric() || rest == '_') {
        return Ok(());
    }
    Err(SchemaError::invalid(format_args!(
        "{name:?} is no name: letters, digits and _ only, and no digit first"
    )))
}

fn text(object: &Map<String, Value>, key: &str) -> Option<String> {
    object.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn strings(object: &Map<String, Value>, key: &str) -> Result<Vec<String>, SchemaError> {
    let Some(value) = object.get(key).filter(|value| !value.is_null()) else { return Ok(Vec::new()) };
    let list =
        value.as_array().and_then(|list| list.iter().map(|item| item.as_str().map(str::to_owned)).collect());
    list.ok_or_else(|| SchemaError::invalid(format_args!("\"{key}\" is not a list of strings")))
}

fn extra(object: &Map<String, Value>, known: &[&str], own: &[&str]) -> Map<String, Value> {
    let unknown = |key: &&String| !known.contains(&key.as_str()) && !own.contains(&key.as_str());
    object.iter().filter(|(key, _)| unknown(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}
