//! What can be chosen about a run.

use std::path::PathBuf;
use std::time::Duration;

use headwater_client::Security;

use crate::legacy::Span;

#[derive(Debug, Clone)]
pub struct Options {
    /// Where everything lives; by default a new directory for temporary files.
    pub data_dir: Option<PathBuf>,
    /// Run node and service as processes of their own, and kill one of them every so often.
    pub kill_every: Option<Duration>,
    /// An Apache Kafka to use instead of the embedded broker.
    pub bootstrap: Option<String>,
    /// TLS and SASL for that.
    pub security: Security,
    /// The file that has them.
    pub command_config: Option<PathBuf>,
    /// How much of the year is lived.
    pub span: Span,
    /// The `headwater` command, which is also what node and service are processes of.
    pub executable: PathBuf,
}
