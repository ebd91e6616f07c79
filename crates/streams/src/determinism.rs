//! What makes the same input have other results the next time: told by `describe`, so that whoever processes input again,
//! or holds two runs against each other, knows where they may differ.
//!
//! Calls of services and reads of global tables are known from the graph. That a processor of the user's own asks for the wall
//! clock is known once a task has run it (`init` is enough); what functions do is not seen, and may be declared by
//! `KStream::nondeterministic`.

use std::fmt;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use crate::graph::NodeSpec;

/// The operator in plain words that `KStream::call` makes.
pub(crate) const CALL: &str = "call";

/// Why an operator's results may differ from run to run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nondeterminism {
    /// It schedules punctuations by the wall clock, or asks what time it is.
    WallClock,
    /// It calls a service, which may answer otherwise when it is asked again.
    OutsideCall,
    /// It reads a global table, which moves on by itself.
    GlobalTable,
    /// As its author says.
    Declared(String),
}

impl fmt::Display for Nondeterminism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WallClock => f.write_str("wall clock"),
            Self::OutsideCall => f.write_str("outside call"),
            Self::GlobalTable => f.write_str("global table"),
            Self::Declared(why) => write!(f, "declared: {why}"),
        }
    }
}

impl NodeSpec {
    pub(crate) fn nondeterminism(&self) -> Vec<Nondeterminism> {
        let wall_clock = self.wall_clock.load(Ordering::Relaxed);
        let known = [
            wall_clock.then_some(Nondeterminism::WallClock),
            (self.kind == CALL).then_some(Nondeterminism::OutsideCall),
            (!self.globals.is_empty()).then_some(Nondeterminism::GlobalTable),
            self.impure.clone().map(Nondeterminism::Declared),
        ];
        known.into_iter().flatten().collect()
    }
}
