//! The tests of the book's examples in one binary: each one that is linked takes its time and tens of megabytes.

mod advertising;
mod bank;
mod book_examples;
mod sessions;
mod stock;
mod support;
