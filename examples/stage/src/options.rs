//! What all examples are told on the command line.

use std::path::PathBuf;

/// Where and how an example runs.
#[derive(clap::Args, Debug, Clone)]
pub struct Options {
    /// Any broker of the cluster: Headwater's or Apache Kafka
    #[arg(long, global = true, default_value = "127.0.0.1:9092")]
    pub bootstrap_server: String,
    /// TLS and SASL, as Kafka's own tools read them
    #[arg(long, global = true, value_name = "FILE")]
    pub command_config: Option<PathBuf>,
    /// What the input is drawn from; the same seed draws the same input
    #[arg(long, global = true, default_value_t = 1)]
    pub seed: u64,
    /// Partitions of every topic
    #[arg(long, global = true, default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..))]
    pub partitions: i32,
    /// Replicas of every topic; -1 is the cluster's default
    #[arg(long, global = true, default_value_t = -1, allow_negative_numbers = true)]
    pub replication_factor: i16,
    /// Leave the topics there, to look at
    #[arg(long, global = true)]
    pub keep: bool,
}
