//! The tests of the queries in one binary: each one that is linked takes its time and tens of megabytes.

mod nexmark_cluster;
mod nexmark_queries;
