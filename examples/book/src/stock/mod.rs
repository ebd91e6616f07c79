//! Stock accounting: sales and returns come in, and each must be counted once, whatever is killed.
//!
//! The service runs in a process of its own, which is killed (SIGKILL) again and again while the tills go on selling. With
//! transactions, state, output and offsets are committed together: each movement is in exactly one output. Without, an id made
//! from the event's data is kept in the row that it changed: the state counts each movement once, outputs may come twice.

mod answer;
mod input;
mod topology;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use headwater::StreamsApp;
use headwater::client::Security;
use headwater_stage::{Options, Output, Stage};
use tokio::process::{Child, Command};

pub use answer::answer;
pub use input::{Moved, draw, events};
pub use topology::{Movement, OPENING, REMEMBERED, Variant, topology};

/// How long an instance lives at least before it is killed: it has to get somewhere.
const LIFE: Duration = Duration::from_millis(700);

/// Runs both variants and kills each so many times.
pub async fn run(options: &Options, kills: u32) -> Result<String> {
    let mut text = String::new();
    for variant in [Variant::Transactions, Variant::Ids] {
        let stage = Stage::open(options, "book-stock").await?;
        writeln!(text, "{}", serve(&stage, variant, kills).await?)?;
        stage.close().await?;
    }
    Ok(text)
}

async fn serve(stage: &Stage, variant: Variant, kills: u32) -> Result<String> {
    let happened = draw(stage.options().seed, stage.begin());
    let right = answer(&happened);
    stage.create(&["sales", "returns", "levels"]).await?;
    let events = events(stage.application_id(), &happened, variant);
    let parts = events.chunks(events.len().div_ceil(kills as usize + 1));
    for (place, part) in parts.enumerate() {
        if place > 0 {
            let mut instance = spawn(stage, variant)?;
            tokio::time::sleep(LIFE + LIFE * (place as u32 % 3) / 2).await;
            let early = instance.try_wait()?;
            ensure!(early.is_none(), "the instance ended by itself: {early:?}");
            instance.kill().await.context("killing the instance")?;
        }
        stage.feed(part.to_vec()).await?;
    }
    let mut last = spawn(stage, variant)?;
    let mut levels: Output<i64> = stage.output("levels").await?;
    let settled = levels
        .until("every movement is in its level", |levels| same(levels, &right, &happened, variant))
        .await;
    last.kill().await.context("ending the instance")?;
    settled?;
    levels.to_the_end().await?;
    let rows = levels.rows().len();
    ensure!(same(&levels, &right, &happened, variant), "more was told after all was counted: {rows} records");
    if variant == Variant::Transactions {
        ensure!(rows == happened.len(), "{} movements led to {rows} outputs", happened.len());
    }
    let (all, fed) = (happened.len(), events.len());
    Ok(match variant {
        Variant::Transactions => {
            format!(
                "stock, with transactions: {all} movements, {kills} kills, {rows} outputs: each counted and told once"
            )
        }
        Variant::Ids => format!(
            "stock, with ids:          {all} movements in {fed} events, {kills} kills, {rows} outputs: each counted once"
        ),
    })
}

/// Whether the last level of every item is right, and there are as many outputs as there should be.
fn same(levels: &Output<i64>, right: &BTreeMap<String, i64>, happened: &[Moved], variant: Variant) -> bool {
    let enough = variant == Variant::Ids || levels.rows().len() >= happened.len();
    enough && levels.table().into_iter().eq(right.iter().map(|(item, level)| (item.clone(), level)))
}

/// Starts this program again, as one instance of the service.
fn spawn(stage: &Stage, variant: Variant) -> Result<Child> {
    let program = std::env::current_exe().context("finding this program")?;
    let variant = clap::ValueEnum::to_possible_value(&variant).context("every variant has a name")?;
    let options = stage.options();
    let mut command = Command::new(program);
    command.args(["--bootstrap-server", &options.bootstrap_server]);
    if let Some(file) = &options.command_config {
        command.arg("--command-config").arg(file);
    }
    command.arg(format!("--replication-factor={}", options.replication_factor)).arg("stock-instance");
    command.args(["--application-id", stage.application_id(), "--variant", variant.get_name()]);
    command.arg("--state-dir").arg(stage.state_dir());
    command.stdin(Stdio::null()).kill_on_drop(true).spawn().context("starting an instance")
}

/// The service, until it is told to stop, or killed.
pub async fn instance(
    options: &Options,
    application_id: &str,
    state_dir: PathBuf,
    variant: Variant,
) -> Result<String> {
    let mut config = headwater::AppConfig::new(&options.bootstrap_server, application_id);
    if let Some(file) = &options.command_config {
        config.security = Security::load(file)?;
    }
    config.state_dir = state_dir;
    config.replication = options.replication_factor;
    config.session_timeout = Duration::from_secs(6);
    config.guarantee = variant.guarantee();
    StreamsApp::start(topology(application_id, variant)?, config).await?.run_until_signal().await?;
    Ok(String::new())
}
