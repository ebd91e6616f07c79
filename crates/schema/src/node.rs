//! A parsed schema: its types in an arena, where a name used twice is one node.
//!
//! Logical types are attributes of the type they annotate: Avro's binary form does not know them.

use std::collections::HashMap;

use serde_json::{Map, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId(pub u32);

#[derive(Debug)]
pub struct Types {
    pub nodes: Vec<Node>,
    pub root: NodeId,
    /// A string of no schema's own: the keys of maps.
    pub key: NodeId,
    /// An int of no schema's own: a byte in a list of them.
    pub byte: NodeId,
}

impl Types {
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    pub fn kind(&self, id: NodeId) -> &Kind {
        &self.node(id).kind
    }
}

#[derive(Debug)]
pub struct Node {
    pub kind: Kind,
    /// What Avro gives no meaning to, and what it calls logical types.
    pub attributes: Map<String, Value>,
}

#[derive(Debug)]
pub enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Array(NodeId),
    Map(NodeId),
    Union(Vec<NodeId>),
    Record(Record),
    Enum(Enum),
    Fixed(Fixed),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub full: String,
}

impl Name {
    pub fn simple(&self) -> &str {
        self.full.rsplit_once('.').map_or(&self.full, |(_, simple)| simple)
    }

    pub fn namespace(&self) -> &str {
        self.full.rsplit_once('.').map_or("", |(namespace, _)| namespace)
    }
}

#[derive(Debug)]
pub struct Record {
    pub name: Name,
    /// Full names.
    pub aliases: Vec<String>,
    pub doc: Option<String>,
    pub error: bool,
    pub fields: Vec<Field>,
    pub by_name: HashMap<String, usize>,
}

#[derive(Debug)]
pub struct Field {
    pub name: String,
    pub aliases: Vec<String>,
    pub doc: Option<String>,
    pub order: Option<String>,
    pub default: Option<Value>,
    /// The default in Avro's binary form.
    pub default_bytes: Option<Vec<u8>>,
    pub node: NodeId,
    pub attributes: Map<String, Value>,
}

#[derive(Debug)]
pub struct Enum {
    pub name: Name,
    pub aliases: Vec<String>,
    pub doc: Option<String>,
    pub symbols: Vec<String>,
    pub by_symbol: HashMap<String, usize>,
    pub default: Option<usize>,
}

#[derive(Debug)]
pub struct Fixed {
    pub name: Name,
    pub aliases: Vec<String>,
    pub doc: Option<String>,
    pub size: usize,
}

impl Kind {
    pub fn primitive(name: &str) -> Option<Self> {
        Some(match name {
            "null" => Self::Null,
            "boolean" => Self::Boolean,
            "int" => Self::Int,
            "long" => Self::Long,
            "float" => Self::Float,
            "double" => Self::Double,
            "bytes" => Self::Bytes,
            "string" => Self::String,
            _ => return None,
        })
    }

    /// Avro's word for the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Bytes => "bytes",
            Self::String => "string",
            Self::Array(_) => "array",
            Self::Map(_) => "map",
            Self::Union(_) => "union",
            Self::Record(_) => "record",
            Self::Enum(_) => "enum",
            Self::Fixed(_) => "fixed",
        }
    }

    pub fn name(&self) -> Option<&Name> {
        match self {
            Self::Record(record) => Some(&record.name),
            Self::Enum(symbols) => Some(&symbols.name),
            Self::Fixed(fixed) => Some(&fixed.name),
            _ => None,
        }
    }

    pub fn aliases(&self) -> &[String] {
        match self {
            Self::Record(record) => &record.aliases,
            Self::Enum(symbols) => &symbols.aliases,
            Self::Fixed(fixed) => &fixed.aliases,
            _ => &[],
        }
    }

    /// The name a union's JSON form tags this branch with: the full name, or the type's.
    pub fn branch_name(&self) -> &str {
        self.name().map_or(self.type_name(), |name| &name.full)
    }

    /// What a person would call it in a message.
    pub fn describe(&self) -> String {
        match self.name() {
            Some(name) => format!("{} {}", self.type_name(), name.full),
            None => self.type_name().to_owned(),
        }
    }
}

impl Record {
    /// The writer's field that a reader's field is filled from, by name or by the reader's aliases.
    pub fn field_for(&self, reader: &Field) -> Option<usize> {
        let mut names = std::iter::once(&reader.name).chain(&reader.aliases);
        names.find_map(|name| self.by_name.get(name).copied())
    }
}
