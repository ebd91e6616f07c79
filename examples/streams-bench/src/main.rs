//! The four small programs by which `cargo xtask bench streams` compares this library with Kafka Streams, whose half is
//! `crates/xtask/src/bench/streams/Programs.java`: the same operators, the same serdes, the same settings.
//!
//! It says on standard output how far it is: `running` once, `processed N` as records pass the source, and with `verify`
//! `digest N H`, where H is made of the last output of each key. Whenever either changes, both are said.

mod programs;
mod seen;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use headwater::{AppConfig, Guarantee, Phase, StreamsApp};

use programs::{Program, Topics, topology};
use seen::Seen;

const USAGE: &str =
    "PROGRAM BOOTSTRAP APPLICATION_ID INPUT TABLE OUTPUT STATE_DIR THREADS GUARANTEE verify|measure";
/// How often it says how far it is.
const REPORTS: Duration = Duration::from_millis(10);

/// As docs/streams.md advises: a record makes and drops a dozen small pieces of memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("headwater-streams-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[String]) -> Result<(), Failure> {
    let [program, bootstrap, application_id, input, table, output, state_dir, threads, guarantee, mode] =
        arguments
    else {
        return Err(format!("it takes {USAGE}").into());
    };
    let seen = Arc::new(Seen::new(mode == "verify"));
    let topics = Topics { input, table, output };
    let topology = topology(Program::parse(program)?, application_id, topics, &seen)?;
    let mut config = AppConfig::new(bootstrap.as_str(), application_id.as_str());
    config.state_dir = state_dir.into();
    config.threads = threads.parse().map_err(|error| format!("THREADS is {threads:?}: {error}"))?;
    config.guarantee = match guarantee.as_str() {
        "exactly_once_v2" => Guarantee::ExactlyOnce,
        "at_least_once" => Guarantee::AtLeastOnce,
        other => return Err(format!("GUARANTEE is {other:?}, not exactly_once_v2 or at_least_once").into()),
    };
    let app = StreamsApp::start(topology, config).await?;
    let reports = tokio::spawn(report(seen));
    while app.phase() != Phase::Running {
        tokio::time::sleep(REPORTS).await;
    }
    println!("running");
    app.run_until_signal().await?;
    reports.abort();
    Ok(())
}

async fn report(seen: Arc<Seen>) {
    let mut said = (0, None);
    loop {
        tokio::time::sleep(REPORTS).await;
        // Counted before: an output that comes in between changes the digest once more.
        let processed = seen.processed();
        let now = (processed, seen.digest());
        if now != said {
            if let (_, Some(digest)) = now {
                println!("digest {processed} {digest}");
            }
            println!("processed {processed}");
            said = now;
        }
    }
}
