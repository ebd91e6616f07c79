//! The client against a real broker: Apache Kafka or Headwater's own, whichever
//! HEADWATER_TEST_BOOTSTRAP names. Tests run side by side on one broker, so every name is unique.

mod admin;
mod consumer_groups;
mod features;
mod groups;
mod kinds;
mod protocol;
mod records;
mod support;
mod transactions;
mod wire;
