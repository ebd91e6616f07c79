//! The legacy system: a normalized SQLite database and the program that lives the year 2013 in it.
//!
//! It owns `legacy.sqlite` and every statement that changes it, and knows nothing of events: no import
//! from any other part of the project, no table that is not its own, no hook for anybody. What
//! listens to it (triggers on `flights`, queries on `weather`) is put there from outside.
//!
//! Its life is not tidy, and always untidy in the same way, because every whim is a hash of the
//! flight's id ([`life`]). When the year is over the database equals the data set.

mod database;
mod life;
mod plan;
mod program;
mod timetable;

pub use database::{create, load_small_tables};
pub use plan::{Plan, Span};
pub use program::{Lived, Progress, live};
