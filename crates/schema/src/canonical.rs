//! [`Types`] to the text that Avro for Java prints for the same schema.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::node::{Field, Kind, Name, NodeId, Types};

pub fn write(types: &Types) -> String {
    let mut printer = Printer { types, defined: HashSet::new(), out: String::new() };
    printer.schema(types.root, "");
    printer.out
}

struct Printer<'t> {
    types: &'t Types,
    defined: HashSet<NodeId>,
    out: String,
}

impl<'t> Printer<'t> {
    fn schema(&mut self, id: NodeId, namespace: &'t str) {
        let node = self.types.node(id);
        if let Some(name) = node.kind.name()
            && !self.defined.insert(id)
        {
            let in_scope = name.namespace() == namespace;
            self.string(if in_scope { name.simple() } else { &name.full });
            return;
        }
        match &node.kind {
            Kind::Union(branches) => {
                self.list(branches, |printer, branch| printer.schema(*branch, namespace));
                return;
            }
            Kind::Record(_) | Kind::Enum(_) | Kind::Fixed(_) | Kind::Array(_) | Kind::Map(_) => {}
            primitive if node.attributes.is_empty() => return self.string(primitive.type_name()),
            _ => {}
        }
        self.out.push_str("{\"type\":");
        match &node.kind {
            Kind::Record(record) if record.error => self.string("error"),
            other => self.string(other.type_name()),
        }
        self.members(&node.kind, namespace);
        self.attributes(&node.attributes);
        if let Some(name) = node.kind.name() {
            self.aliases(node.kind.aliases(), name.namespace());
        }
        self.out.push('}');
    }

    fn members(&mut self, kind: &'t Kind, namespace: &'t str) {
        match kind {
            Kind::Array(items) => self.nested("items", *items, namespace),
            Kind::Map(values) => self.nested("values", *values, namespace),
            Kind::Record(record) => {
                self.name(&record.name, namespace);
                self.doc(record.doc.as_deref());
                self.key("fields");
                self.list(&record.fields, |printer, field| printer.field(field, record.name.namespace()));
            }
            Kind::Enum(symbols) => {
                self.name(&symbols.name, namespace);
                self.doc(symbols.doc.as_deref());
                self.key("symbols");
                self.list(&symbols.symbols, |printer, symbol| printer.string(symbol));
                if let Some(default) = symbols.default {
                    self.key("default");
                    self.string(&symbols.symbols[default]);
                }
            }
            Kind::Fixed(fixed) => {
                self.name(&fixed.name, namespace);
                self.doc(fixed.doc.as_deref());
                self.key("size");
                self.out.push_str(&fixed.size.to_string());
            }
            _ => {}
        }
    }

    fn field(&mut self, field: &'t Field, namespace: &'t str) {
        self.out.push_str("{\"name\":");
        self.string(&field.name);
        self.nested("type", field.node, namespace);
        self.doc(field.doc.as_deref());
        if let Some(default) = &field.default {
            self.key("default");
            self.out.push_str(&default.to_string());
        }
        if let Some(order) = field.order.as_deref().filter(|order| *order != "ascending") {
            self.key("order");
            self.string(order);
        }
        self.aliases(&field.aliases, "");
        self.attributes(&field.attributes);
        self.out.push('}');
    }

    fn name(&mut self, name: &'t Name, namespace: &str) {
        self.key("name");
        self.string(name.simple());
        if name.namespace() != namespace {
            self.key("namespace");
            self.string(name.namespace());
        }
    }

    fn aliases(&mut self, aliases: &[String], namespace: &str) {
        if aliases.is_empty() {
            return;
        }
        self.key("aliases");
        self.list(aliases, |printer, alias| match alias.rsplit_once('.') {
            Some((space, simple)) if space == namespace => printer.string(simple),
            _ => printer.string(alias),
        });
    }

    fn doc(&mut self, doc: Option<&str>) {
        if let Some(doc) = doc {
            self.key("doc");
            self.string(doc);
        }
    }

    fn nested(&mut self, key: &str, id: NodeId, namespace: &'t str) {
        self.key(key);
        self.schema(id, namespace);
    }

    fn attributes(&mut self, attributes: &Map<String, Value>) {
        for (key, value) in attributes {
            self.key(key);
            self.out.push_str(&value.to_string());
        }
    }

    fn key(&mut self, key: &str) {
        self.out.push(',');
        self.string(key);
        self.out.push(':');
    }

    fn string(&mut self, text: &str) {
        self.out.push_str(&Value::from(text).to_string());
    }

    fn list<'l, T: 'l>(
        &mut self,
        items: impl IntoIterator<Item = &'l T>,
        mut item: impl FnMut(&mut Self, &'l T),
    ) {
        self.out.push('[');
        for (index, each) in items.into_iter().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            item(self, each);
        }
        self.out.push(']');
    }
}
