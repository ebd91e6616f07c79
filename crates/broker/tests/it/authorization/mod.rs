//! Who may do what, over plain connections: what a stranger gets, and what single rules open.

mod audit;
mod operations;
mod rules;
mod stranger;
mod support;
mod telling;
