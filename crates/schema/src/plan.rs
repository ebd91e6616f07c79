//! Schema resolution, decided once: how values of a writer's schema become values of a reader's.
//!
//! The rules are the Avro specification's, with Avro for Java's choices where it leaves some: a union's
//! branch is taken by its full name, then by its simple name, then by a record's structure, then by
//! promotion. Record names outside of unions do not matter for reading. What may or may not occur in the
//! data, as a union's branch the reader lacks, fails only when it does occur.

use std::collections::HashMap;

use crate::SchemaError;
use crate::node::{Enum, Kind, NodeId, Record, Types};
use crate::rules::{DEEPEST, names_match, promotes};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepId(u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    Int,
    Long,
    Float,
    Double,
}

#[derive(Debug)]
pub enum Step {
    Null,
    Boolean,
    Number {
        from: Number,
        to: Number,
    },
    Bytes,
    /// Strings, and bytes read as one.
    String,
    Fixed(usize),
    Array(StepId),
    Map(StepId),
    Enum(Symbols),
    Record(Fields),
    /// The writer's union: the bytes say which branch.
    Union(Vec<StepId>),
    /// The reader's union: the branch that the value goes to, by its simple name.
    Branch {
        name: Box<str>,
        inner: StepId,
    },
    Fail(SchemaError),
}

#[derive(Debug)]
pub struct Symbols {
    /// The reader's symbol for each of the writer's; `Err` holds one the reader does not know.
    pub symbols: Vec<Result<Box<str>, Box<str>>>,
    pub name: Box<str>,
}

#[derive(Debug)]
pub struct Fields {
    /// In the order of the bytes.
    pub fields: Vec<FieldStep>,
    /// What the writer does not have.
    pub defaults: Vec<Default>,
}

#[derive(Debug)]
pub enum FieldStep {
    Read { name: Box<str>, step: StepId },
    Skip(NodeId),
}

#[derive(Debug)]
pub struct Default {
    pub name: Box<str>,
    pub step: StepId,
    pub bytes: Box<[u8]>,
}

#[derive(Debug)]
pub struct Plan {
    steps: Vec<Step>,
    pub root: StepId,
}

impl Plan {
    pub fn compile(writer: &Types, reader: &Types) -> Result<Self, SchemaError> {
        let mut compiler = Compiler { reader, steps: Vec::new(), known: HashMap::new(), depth: 0 };
        let root = compiler.step(writer, writer.root, reader.root)?;
        Ok(Self { steps: compiler.steps, root })
    }

    #[inline]
    pub fn step(&self, id: StepId) -> &Step {
        &self.steps[id.0 as usize]
    }
}

struct Compiler<'t> {
    reader: &'t Types,
    steps: Vec<Step>,
    /// Recursion ends here. The key says whether it is the reader's own default that is read.
    known: HashMap<(bool, NodeId, NodeId), StepId>,
    depth: usize,
}

impl<'t> Compiler<'t> {
    fn step(&mut self, from: &'t Types, writer: NodeId, reader: NodeId) -> Result<StepId, SchemaError> {
        let key = (std::ptr::eq(from, self.reader), writer, reader);
        if let Some(id) = self.known.get(&key) {
            return match &self.steps[id.0 as usize] {
                Step::Fail(error) => Err(error.clone()),
                _ => Ok(*id),
            };
        }
        if self.depth >= DEEPEST {
            return Err(SchemaError::unresolvable(format_args!(
                "more than {DEEPEST} types are within each other"
            )));
        }
        let id = StepId(self.steps.len() as u32);
        self.steps.push(Step::Null);
        self.known.insert(key, id);
        self.depth += 1;
        let built = self.build(from, writer, reader);
        self.depth -= 1;
        match built {
            Ok(step) => {
                self.steps[id.0 as usize] = step;
                Ok(id)
            }
            Err(error) => {
                self.steps[id.0 as usize] = Step::Fail(error.clone());
                Err(error)
            }
        }
    }

    fn build(&mut self, from: &'t Types, writer: NodeId, reader: NodeId) -> Result<Step, SchemaError> {
        let number = |from, to| Ok(Step::Number { from, to });
        let (theirs, ours) = (from.kind(writer), self.reader.kind(reader));
        match (theirs, ours) {
            (Kind::Union(branches), _) => self.union(from, branches, reader),
            (_, Kind::Union(branches)) => self.branch(from, writer, branches),
            (Kind::Null, Kind::Null) => Ok(Step::Null),
            (Kind::Boolean, Kind::Boolean) => Ok(Step::Boolean),
            (Kind::Int, Kind::Int) => number(Number::Int, Number::Int),
            (Kind::Int, Kind::Long) => number(Number::Int, Number::Long),
            (Kind::Int, Kind::Float) => number(Number::Int, Number::Float),
            (Kind::Int, Kind::Double) => number(Number::Int, Number::Double),
            (Kind::Long, Kind::Long) => number(Number::Long, Number::Long),
            (Kind::Long, Kind::Float) => number(Number::Long, Number::Float),
            (Kind::Long, Kind::Double) => number(Number::Long, Number::Double),
            (Kind::Float, Kind::Float) => number(Number::Float, Number::Float),
            (Kind::Float, Kind::Double) => number(Number::Float, Number::Double),
            (Kind::Double, Kind::Double) => number(Number::Double, Number::Double),
            (Kind::Bytes | Kind::String, Kind::Bytes) => Ok(Step::Bytes),
            (Kind::Bytes | Kind::String, Kind::String) => Ok(Step::String),
            (Kind::Array(theirs), Kind::Array(ours)) => {
                self.step(from, *theirs, *ours).map(Step::Array).map_err(|error| error.at("items"))
            }
            (Kind::Map(theirs), Kind::Map(ours)) => {
                self.step(from, *theirs, *ours).map(Step::Map).map_err(|error| error.at("values"))
            }
            (Kind::Fixed(theirs_fixed), Kind::Fixed(ours_fixed))
                if theirs_fixed.size == ours_fixed.size && names_match(ours, theirs) =>
            {
                Ok(Step::Fixed(ours_fixed.size))
            }
            (Kind::Enum(theirs_enum), Kind::Enum(ours_enum)) if names_match(ours, theirs) => {
                Ok(Step::Enum(symbols(theirs_enum, ours_enum)))
            }
            (Kind::Record(theirs), Kind::Record(ours)) => self.record(from, theirs, ours),
            _ => Err(SchemaError::unresolvable(format_args!(
                "the writer has {}, the reader wants {}",
                theirs.describe(),
                ours.describe()
            ))),
        }
    }

    fn union(
        &mut self,
        from: &'t Types,
        branches: &'t [NodeId],
        reader: NodeId,
    ) -> Result<Step, SchemaError> {
        let mut steps = Vec::with_capacity(branches.len());
        let mut failure = None;
        let mut readable = branches.is_empty();
        for branch in branches {
            match self.step(from, *branch, reader) {
                Ok(step) => {
                    readable = true;
                    steps.push(step);
                }
                Err(error) => {
                    steps.push(StepId(self.steps.len() as u32));
                    self.steps.push(Step::Fail(error.clone()));
                    failure = Some(error);
                }
            }
        }
        match failure {
            Some(error) if !readable => Err(error),
            _ => Ok(Step::Union(steps)),
        }
    }

    fn branch(
        &mut self,
        from: &'t Types,
        writer: NodeId,
        branches: &'t [NodeId],
    ) -> Result<Step, SchemaError> {
        let theirs = from.kind(writer);
        let mut candidates: Vec<(u8, NodeId)> =
            branches.iter().map(|branch| (closeness(theirs, self.reader.kind(*branch)), *branch)).collect();
        candidates.retain(|(close, _)| *close > 0);
        candidates.sort_by_key(|(close, _)| std::cmp::Reverse(*close));
        let mut failure = None;
        for (_, branch) in candidates {
            let ours = self.reader.kind(branch);
            match self.step(from, writer, branch) {
                Ok(inner) => {
                    let name = ours.name().map_or(ours.type_name(), |name| name.simple());
                    return Ok(Step::Branch { name: name.into(), inner });
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.unwrap_or_else(|| {
            SchemaError::unresolvable(format_args!(
                "the reader's union has no branch for the writer's {}",
                theirs.describe()
            ))
        }))
    }

    fn record(&mut self, from: &'t Types, theirs: &'t Record, ours: &'t Record) -> Result<Step, SchemaError> {
        let mut targets = vec![None; theirs.fields.len()];
        let mut defaults = Vec::new();
        for field in &ours.fields {
            if let Some(index) = theirs.field_for(field) {
                targets[index] = Some(field);
                continue;
            }
            let Some(bytes) = &field.default_bytes else {
                let reason = format!(
                    "the writer does not have this field of {}, and it has no default",
                    ours.name.full
                );
                return Err(SchemaError::unresolvable(reason).at(&field.name));
            };
            let step = self.step(self.reader, field.node, field.node)?;
            defaults.push(Default { name: field.name.as_str().into(), step, bytes: bytes.as_slice().into() });
        }
        let mut fields = Vec::with_capacity(theirs.fields.len());
        for (field, target) in theirs.fields.iter().zip(targets) {
            fields.push(match target {
                None => FieldStep::Skip(field.node),
                Some(ours) => {
                    let step =
                        self.step(from, field.node, ours.node).map_err(|error| error.at(&ours.name))?;
                    FieldStep::Read { name: ours.name.as_str().into(), step }
                }
            });
        }
        Ok(Step::Record(Fields { fields, defaults }))
    }
}

fn symbols(theirs: &Enum, ours: &Enum) -> Symbols {
    let default = ours.default.map(|index| ours.symbols[index].as_str());
    let symbols = theirs.symbols.iter().map(|symbol| {
        let known = ours.by_symbol.contains_key(symbol).then_some(symbol.as_str()).or(default);
        known.map(Box::from).ok_or_else(|| symbol.as_str().into())
    });
    Symbols { symbols: symbols.collect(), name: ours.name.full.as_str().into() }
}

/// How well a reader's branch suits the writer's type; 0 is not at all.
fn closeness(theirs: &Kind, ours: &Kind) -> u8 {
    if std::mem::discriminant(theirs) != std::mem::discriminant(ours) {
        return u8::from(promotes(theirs, ours));
    }
    match (theirs.name(), ours.name()) {
        (Some(writer), Some(reader)) if writer == reader || ours.aliases().contains(&writer.full) => 4,
        (Some(writer), Some(reader)) if writer.simple() == reader.simple() => 3,
        (Some(_), Some(_)) if matches!(ours, Kind::Record(_)) => 2,
        (Some(_), Some(_)) => 0,
        _ => 4,
    }
}
