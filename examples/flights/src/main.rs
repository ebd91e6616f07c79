use std::io::IsTerminal;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

/// The library logs by the crate `tracing`: without this line nobody sees it. `HEADWATER_LOG` or `RUST_LOG` says how much.
fn log() {
    let filter = EnvFilter::try_from_env("HEADWATER_LOG").or_else(|_| EnvFilter::try_from_default_env());
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
}

#[tokio::main]
async fn main() -> ExitCode {
    log();
    match headwater_flights::run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", headwater_flights::APPLICATION_ID);
            ExitCode::FAILURE
        }
    }
}
