//! Where an example's log goes: what the library says by the crate `tracing` is lost without a subscriber.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Logs to standard error: warnings and errors, unless `HEADWATER_LOG` or `RUST_LOG` says more.
pub fn log() {
    let filter = EnvFilter::try_from_env("HEADWATER_LOG").or_else(|_| EnvFilter::try_from_default_env());
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("warn"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
}
