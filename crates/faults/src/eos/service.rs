//! The application under fire: a process of its own that runs a plan's topology until it is told to stop, or killed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use headwater::{AppConfig, FaultHook, FaultPoint, GroupProtocol, SnapshotConfig, StreamsApp};
use rustix::process::{Signal, getpid, kill_process};

use super::bugs;
use super::instance::stop_request;
use super::plan::Plan;
use super::topology;

#[derive(clap::Args)]
pub struct Options {
    #[arg(long)]
    plan: PathBuf,
    #[arg(long)]
    bootstrap: String,
    #[arg(long)]
    state: PathBuf,
    #[arg(long)]
    plant: Option<String>,
}

/// Stops the whole process, as SIGSTOP from outside would, where a transaction holds output and no offsets yet.
fn stop_when_asked(request: PathBuf) -> FaultHook {
    FaultHook::new(move |point| {
        if point == FaultPoint::AfterSend && std::fs::remove_file(&request).is_ok() {
            let stopped = kill_process(getpid(), Signal::STOP);
            stopped.unwrap_or_else(|error| eprintln!("the service cannot stop itself: {error}"));
        }
        false
    })
}

/// Whether it ended because it was told to.
pub fn run(options: &Options) -> Result<bool> {
    bugs::plant(options.plant.as_deref())?;
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(
            std::env::var("RUST_LOG").unwrap_or_else(|_| "warn,headwater_runtime=info".to_owned()),
        ))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
    let text = std::fs::read_to_string(&options.plan).context("reading the plan")?;
    let plan: Plan = serde_json::from_str(&text)?;
    let mut config = AppConfig::new(&options.bootstrap, &plan.application);
    config.state_dir = options.state.clone();
    config.threads = plan.threads;
    config.commit_interval = Duration::from_millis(plan.commit_ms);
    config.session_timeout = Duration::from_millis(plan.session_ms);
    config.rebalance_timeout = Duration::from_secs(15);
    config.transaction_timeout = Duration::from_millis(plan.transaction_ms);
    if plan.broker_assigns {
        config.group_protocol = GroupProtocol::Streams;
    }
    config.num_standby_replicas = plan.copies.standbys;
    config.acceptable_recovery_lag = plan.copies.acceptable_lag;
    config.probing_rebalance_interval = Duration::from_millis(plan.copies.probing_ms.max(1));
    if plan.copies.cleanup_ms > 0 {
        config.state_cleanup_delay = Duration::from_millis(plan.copies.cleanup_ms);
    }
    config.store_write_at_once = plan.writes.at_once;
    config.store_write_delay = Duration::from_millis(plan.writes.delay_ms);
    config.store_table_from = plan.writes.table_from;
    config.fault = Some(stop_when_asked(stop_request(&options.state)));
    if plan.copies.snapshot_ms > 0 {
        // Of all instances, beside their directories.
        let place = options.state.parent().context("the state has a directory")?.join("snapshots");
        let interval = Duration::from_millis(plan.copies.snapshot_ms);
        let place = format!("file://{}", std::path::absolute(place)?.display());
        config.snapshots = Some(SnapshotConfig { interval, ..SnapshotConfig::new(place) });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let app = StreamsApp::start(topology::build(&plan)?, config).await?;
        app.run_until_signal().await?;
        Ok(true)
    })
}
