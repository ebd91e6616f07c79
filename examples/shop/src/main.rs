//! `headwater-shop` runs on a cluster and a PostgreSQL, checks its answer by SQL and says what it saw.

use std::process::ExitCode;

use clap::Parser;
use headwater_stage::Options;

#[derive(Parser)]
#[command(version, about = "Stock levels that a web shop asks by SQL, counted once whatever is killed")]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Where the levels are kept: postgres://user:password@host/database
    #[arg(long, value_name = "URL", env = "HEADWATER_EXTERNAL", hide_env_values = true)]
    external: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    headwater_stage::log();
    let arguments = Arguments::parse();
    match headwater_shop::run(&arguments.options, &arguments.external).await {
        Ok(told) => {
            print!("{told}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("headwater-shop: {error:#}");
            ExitCode::FAILURE
        }
    }
}
