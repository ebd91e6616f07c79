//! Whether data of one schema can be read with another: Avro for Java's `SchemaCompatibility`, rule by
//! rule, so that a change is accepted here exactly when Confluent's registry accepts it.
//!
//! Not Avro's specification in two points, as there: names match by their last part alone, and logical
//! types play no role. The one difference is in what is said: paths lead into unions, too.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use crate::AvroSchema;
use crate::node::{Enum, Fixed, Kind, NodeId, Record, Types};

/// Types that refer to each other are followed so deep, so that a schema cannot use up the stack.
pub const DEEPEST: usize = 700;
/// Pairs of types of one comparison: two unions have as many as the product of their branches.
const MOST_PAIRS: usize = 100_000;
/// Of one pair of types: what is wrong with a type is wrong with each that has it, twice if it has it twice.
const MOST_TOLD: usize = 32;
/// In bytes: names may be of any length.
const LONGEST_MESSAGE: usize = 1000;

/// Why some data of a writer's schema cannot be read with a reader's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incompatibility {
    /// Avro's and Confluent's name for the rule that is broken.
    pub rule: &'static str,
    /// Where in the reader's schema, as a JSON pointer: `/fields/0/type`.
    pub path: String,
    /// What is wrong, in which schema, and what to change.
    pub message: String,
}

impl fmt::Display for Incompatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "/" } else { &self.path };
        write!(f, "{} at {path}: {}", self.rule, self.message)
    }
}

/// Everything that keeps `reader` from reading what `writer` wrote; empty when all can be read.
pub fn can_read(reader: &AvroSchema, writer: &AvroSchema) -> Vec<Incompatibility> {
    compare(reader, writer, ("the reader's schema", "the writer's schema"))
}

/// `who` names the two schemas in messages.
pub fn compare(
    reader: &AvroSchema,
    writer: &AvroSchema,
    who: (&'static str, &'static str),
) -> Vec<Incompatibility> {
    let mut rules = Rules {
        reader: reader.types(),
        writer: writer.types(),
        who,
        path: Vec::new(),
        known: HashMap::new(),
        depth: 0,
    };
    rules.check(reader.types().root, writer.types().root)
}

/// By simple name, or by an alias of the reader's for the writer's full name.
pub fn names_match(reader: &Kind, writer: &Kind) -> bool {
    match (reader.name(), writer.name()) {
        (Some(ours), Some(theirs)) => {
            ours.simple() == theirs.simple() || reader.aliases().contains(&theirs.full)
        }
        _ => true,
    }
}

/// May a value of one primitive type be read as another?
pub fn promotes(writer: &Kind, reader: &Kind) -> bool {
    matches!(
        (writer, reader),
        (Kind::Int, Kind::Long | Kind::Float | Kind::Double)
            | (Kind::Long, Kind::Float | Kind::Double)
            | (Kind::Float, Kind::Double)
            | (Kind::String, Kind::Bytes)
            | (Kind::Bytes, Kind::String)
    )
}

struct Rules<'t> {
    reader: &'t Types,
    writer: &'t Types,
    who: (&'static str, &'static str),
    path: Vec<String>,
    /// `None` while a pair is being compared: recursion is compatible until proven otherwise.
    known: HashMap<(NodeId, NodeId), Option<Vec<Incompatibility>>>,
    depth: usize,
}

impl<'t> Rules<'t> {
    fn check(&mut self, reader: NodeId, writer: NodeId) -> Vec<Incompatibility> {
        match self.known.get(&(reader, writer)) {
            Some(Some(found)) => return found.clone(),
            Some(None) => return Vec::new(),
            None => {}
        }
        if self.is_over() || self.depth >= DEEPEST {
            return vec![self.too_large()];
        }
        self.known.insert((reader, writer), None);
        self.depth += 1;
        let mut found = self.check_types(reader, writer);
        self.depth -= 1;
        found.truncate(MOST_TOLD);
        self.known.insert((reader, writer), Some(found.clone()));
        found
    }

    fn inside(&mut self, segment: impl fmt::Display, reader: NodeId, writer: NodeId) -> Vec<Incompatibility> {
        self.path.push(segment.to_string());
        let found = self.check(reader, writer);
        self.path.pop();
        found
    }

    /// Nothing more is compared.
    fn is_over(&self) -> bool {
        self.known.len() >= MOST_PAIRS
    }

    fn too_large(&self) -> Incompatibility {
        let message = format!(
            "the schemas are too large to be compared: more than {MOST_PAIRS} pairs of types, or than {DEEPEST} types within each other; use fewer types, or unions of fewer branches"
        );
        self.found("SCHEMA_TOO_LARGE", "", message)
    }

    fn found(&self, rule: &'static str, place: &str, mut message: String) -> Incompatibility {
        if message.len() > LONGEST_MESSAGE {
            message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
            message.push('…');
        }
        let mut path: String = self.path.iter().map(|segment| format!("/{segment}")).collect();
        path.push_str(place);
        Incompatibility { rule, path, message }
    }

    fn check_types(&mut self, reader: NodeId, writer: NodeId) -> Vec<Incompatibility> {
        let (ours, theirs) = (self.reader.kind(reader), self.writer.kind(writer));
        match (ours, theirs) {
            (Kind::Array(ours), Kind::Array(theirs)) => self.inside("items", *ours, *theirs),
            (Kind::Map(ours), Kind::Map(theirs)) => self.inside("values", *ours, *theirs),
            (Kind::Fixed(ours_fixed), Kind::Fixed(theirs_fixed)) => {
                let mut found = Vec::from_iter(self.check_names(ours, theirs));
                found.extend(self.check_size(ours_fixed, theirs_fixed));
                found
            }
            (Kind::Enum(ours_enum), Kind::Enum(theirs_enum)) => {
                let mut found = Vec::from_iter(self.check_names(ours, theirs));
                found.extend(self.check_symbols(ours_enum, theirs_enum));
                found
            }
            (Kind::Record(ours_record), Kind::Record(theirs_record)) => {
                let mut found = Vec::from_iter(self.check_names(ours, theirs));
                found.extend(self.check_fields(ours_record, theirs_record));
                found
            }
            (Kind::Union(_), Kind::Union(branches)) => self.check_branches(reader, branches),
            // A reader that is no union reads a union when it reads each of its branches.
            (_, Kind::Union(branches)) => {
                let mut found = Vec::new();
                for branch in branches {
                    found.extend(self.check(reader, *branch));
                    if found.len() >= MOST_TOLD {
                        break;
                    }
                }
                found
            }
            (Kind::Union(branches), _) => self.check_union_reader(branches, writer),
            _ if std::mem::discriminant(ours) == std::mem::discriminant(theirs) => Vec::new(),
            _ if promotes(theirs, ours) => Vec::new(),
            _ => vec![self.type_mismatch(ours, theirs)],
        }
    }

    fn type_mismatch(&self, ours: &Kind, theirs: &Kind) -> Incompatibility {
        let (reader, writer) = self.who;
        let (ours, theirs) = (ours.describe(), theirs.describe());
        let advice = format!("keep {theirs}, or add a new field with a default instead");
        self.found("TYPE_MISMATCH", "", format!("{reader} has {ours} where {writer} has {theirs}; {advice}"))
    }

    fn check_names(&self, ours: &Kind, theirs: &Kind) -> Option<Incompatibility> {
        if names_match(ours, theirs) {
            return None;
        }
        let (reader, writer) = self.who;
        let theirs_name = theirs.name().map_or("", |name| &name.full);
        let message = format!(
            "{reader} has {} where {writer} has {}; keep the name, or give {reader}'s type the alias \"{theirs_name}\"",
            ours.describe(),
            theirs.describe(),
        );
        Some(self.found("NAME_MISMATCH", "/name", message))
    }

    fn check_size(&self, ours: &Fixed, theirs: &Fixed) -> Option<Incompatibility> {
        let (reader, writer) = self.who;
        let (full, size, their_size) = (&ours.name.full, ours.size, theirs.size);
        let message = format!(
            "{reader}'s fixed {full} has {size} bytes, {writer}'s has {their_size}; keep the size, or define another type"
        );
        (size != their_size).then(|| self.found("FIXED_SIZE_MISMATCH", "/size", message))
    }

    fn check_symbols(&self, ours: &Enum, theirs: &Enum) -> Option<Incompatibility> {
        let known = |symbol: &&String| ours.by_symbol.contains_key(*symbol);
        let missing: BTreeSet<&str> =
            theirs.symbols.iter().filter(|symbol| !known(symbol)).map(String::as_str).collect();
        if missing.is_empty() || ours.default.is_some() {
            return None;
        }
        let (reader, writer) = self.who;
        let missing = missing.into_iter().collect::<Vec<_>>().join(", ");
        let full = &ours.name.full;
        let message = format!(
            "enum {full} of {reader} lacks the symbols [{missing}] of {writer}; add them, or give the enum a \"default\" symbol"
        );
        Some(self.found("MISSING_ENUM_SYMBOLS", "/symbols", message))
    }

    fn check_fields(&mut self, ours: &'t Record, theirs: &'t Record) -> Vec<Incompatibility> {
        let mut found = Vec::new();
        self.path.push("fields".to_owned());
        for (index, field) in ours.fields.iter().enumerate() {
            self.path.push(index.to_string());
            match theirs.field_for(field) {
                Some(writer) => found.extend(self.inside("type", field.node, theirs.fields[writer].node)),
                None if field.default.is_some() => {}
                None => {
                    let (reader, writer) = self.who;
                    let (name, record) = (&field.name, &ours.name.full);
                    let message = format!(
                        "field {name} of {record} in {reader} is missing in {writer} and has no default; give it a \"default\""
                    );
                    found.push(self.found("READER_FIELD_MISSING_DEFAULT_VALUE", "", message));
                }
            }
            self.path.pop();
            if found.len() >= MOST_TOLD {
                break;
            }
        }
        self.path.pop();
        found
    }

    fn check_branches(&mut self, reader: NodeId, branches: &'t [NodeId]) -> Vec<Incompatibility> {
        let mut found = Vec::new();
        for (index, branch) in branches.iter().enumerate() {
            if let Some(problem) = self.inside(index, reader, *branch).into_iter().next() {
                found.push(self.found("MISSING_UNION_BRANCH", &format!("/{index}"), problem.message));
                if found.len() >= MOST_TOLD {
                    break;
                }
            }
        }
        found
    }

    fn check_union_reader(&mut self, branches: &'t [NodeId], writer: NodeId) -> Vec<Incompatibility> {
        let theirs = self.writer.kind(writer);
        let mut closest = None;
        for (index, branch) in branches.iter().enumerate() {
            let problems = self.inside(index, *branch, writer);
            if problems.is_empty() {
                return Vec::new();
            }
            if self.is_over() {
                return vec![self.too_large()];
            }
            // What is wrong with the branch of that name is worth telling.
            let ours = self.reader.kind(*branch);
            if ours.name().is_some() && theirs.name().is_some() && names_match(ours, theirs) {
                closest = problems.into_iter().next();
            }
        }
        let mut message = self.missing_branch(theirs);
        if let Some(problem) = closest {
            message = format!("{message} ({problem})");
        }
        vec![self.found("MISSING_UNION_BRANCH", "", message)]
    }

    fn missing_branch(&self, theirs: &Kind) -> String {
        let (reader, writer) = self.who;
        let theirs = theirs.describe();
        format!(
            "the union of {reader} has nothing to read {theirs} of {writer} with; add {theirs} to the union"
        )
    }
}
