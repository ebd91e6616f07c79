//! `headwater-nexmark --query q5 --events 20000` runs a query and compares its answer with SQL's.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use headwater_nexmark::events::draw;
use headwater_nexmark::reference::Reference;
use headwater_nexmark::run::{Ran, compare, in_memory, on_cluster, query};
use headwater_nexmark::{QUERIES, Query};
use headwater_stage::{Options, Stage};

/// 2024-01-01T00:00:00Z: the first event where no broker minds.
const BEGIN: i64 = 1_704_067_200_000;

#[derive(Parser)]
#[command(version, about = "NEXMark's queries as topologies, held against SQL over the same events")]
struct Arguments {
    /// q0 … q9, q11, q14, q17 … q19, or all
    #[arg(long, default_value = "all")]
    query: String,
    /// How many events are drawn
    #[arg(long, default_value_t = 20_000)]
    events: usize,
    /// Print the rows of the answer
    #[arg(long)]
    rows: bool,
    /// Run on the cluster at --bootstrap-server, not in memory
    #[arg(long)]
    cluster: bool,
    #[command(flatten)]
    options: Options,
}

#[tokio::main]
async fn main() -> ExitCode {
    headwater_stage::log();
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("headwater-nexmark: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    if arguments.query != "all" {
        return one(arguments, query(&arguments.query)?).await;
    }
    for query in QUERIES {
        one(arguments, query).await?;
    }
    Ok(())
}

async fn one(arguments: &Arguments, query: &Query) -> Result<()> {
    let options = &arguments.options;
    let Ran { rows, took } = if arguments.cluster {
        let stage = Stage::open(options, &format!("nexmark-{}", query.name)).await?;
        let happened = draw(options.seed, stage.begin(), arguments.events);
        let expected = Reference::of(&happened)?.answer(query)?;
        let ran = on_cluster(query, &happened, &stage, &expected).await?;
        stage.close().await?;
        compare(query, &ran.rows, &expected)?;
        ran
    } else {
        let happened = draw(options.seed, BEGIN, arguments.events);
        let ran = in_memory(query, &happened, options.partitions, |_, _| Ok(()))?;
        compare(query, &ran.rows, &Reference::of(&happened)?.answer(query)?)?;
        ran
    };
    if arguments.rows {
        rows.iter().for_each(|row| println!("{row}"));
    }
    let (count, seconds) = (rows.len(), took.as_secs_f64());
    let rate = arguments.events as f64 / seconds;
    println!(
        "{:4} {:32} {count:6} rows, as SQL has them; {} events in {seconds:.2} s, {rate:.0} a second",
        query.name, query.title, arguments.events
    );
    Ok(())
}
