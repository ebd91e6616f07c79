//! `headwater-book EXAMPLE` runs one of the book's examples on a cluster, checks its answer and says what it saw.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use headwater_book::{advertising, bank, sessions, stock};
use headwater_stage::Options;

#[derive(Parser)]
#[command(version, about = "The book's examples of streams, on Headwater's broker or Apache Kafka")]
struct Arguments {
    #[command(subcommand)]
    example: Example,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Example {
    /// A deposit and a withdrawal out of order: as they come, with a grace period, by lowest timestamp
    Bank,
    /// Sales and returns become stock levels, while instances are killed: with transactions, and with ids
    Stock {
        /// How often the instance is killed (SIGKILL) in each variant
        #[arg(long, default_value_t = 3)]
        kills: u32,
    },
    /// Sessions of users, told after 30 minutes without activity
    Sessions,
    /// Session events become conversions, their sums are joined with advertisements, out comes what is billed
    Advertising,
    /// One instance of the stock service, which `stock` starts and kills
    #[command(hide = true)]
    StockInstance {
        #[arg(long)]
        application_id: String,
        #[arg(long)]
        state_dir: PathBuf,
        #[arg(long)]
        variant: stock::Variant,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    headwater_stage::log();
    let Arguments { example, options } = Arguments::parse();
    let told = match example {
        Example::Bank => bank::run(&options).await,
        Example::Stock { kills } => stock::run(&options, kills).await,
        Example::Sessions => sessions::run(&options).await,
        Example::Advertising => advertising::run(&options).await,
        Example::StockInstance { application_id, state_dir, variant } => {
            stock::instance(&options, &application_id, state_dir, variant).await
        }
    };
    match told {
        Ok(told) => {
            print!("{told}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("headwater-book: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_may_follow_the_example_as_the_documentation_has_it() {
        let words = "headwater-book advertising --bootstrap-server kafka:9092 --partitions 6";
        let arguments = Arguments::try_parse_from(words.split(' ')).unwrap();
        assert_eq!(arguments.options.bootstrap_server, "kafka:9092");
        assert_eq!(arguments.options.partitions, 6);
    }
}
