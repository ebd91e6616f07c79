//! The registry as its clients meet it, on the embedded broker and on Apache Kafka.

mod api;
mod harness;
mod lost;
mod nodes;
mod restart;
