//! `headwater-failures` runs on a cluster, checks its answer and says what it saw.

use std::process::ExitCode;

use clap::Parser;
use headwater_stage::Options;

#[derive(Parser)]
#[command(version, about = "Poisoned keys that wait, and calls of a service that fails")]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

#[tokio::main]
async fn main() -> ExitCode {
    headwater_stage::log();
    match headwater_failures::run(&Arguments::parse().options).await {
        Ok(told) => {
            print!("{told}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("headwater-failures: {error:#}");
            ExitCode::FAILURE
        }
    }
}
