//! `headwater demo`: the main job on real data, with its answer checked.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use headwater_demo::legacy::Span;
use headwater_demo::{Interrupted, Lines, Options, Show};
use tokio::signal::unix::{SignalKind, signal};

use crate::Common;
use crate::output::{self, Failure, INTERRUPTED};

#[derive(clap::Args)]
pub struct Demo {
    /// Where everything lives: new, empty, or a former demo's [default: a new directory for temporary files]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Leave everything running after the verdict, and say what to try next
    #[arg(long)]
    keep: bool,
    /// Run node and service as processes, and kill one of them (SIGKILL) every so often, like 5s
    #[arg(long, value_name = "TIME", value_parser = duration)]
    kill_every: Option<Duration>,
    /// Live only the days before this one, like 2013-02-01
    #[arg(long, value_name = "DATE", value_parser = span)]
    until: Option<Span>,
}

impl Demo {
    pub async fn run(self, common: &Common) -> Result<ExitCode, Failure> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut signalled = async move || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        output::to_the_end();
        let options = Options {
            data_dir: self.data_dir,
            kill_every: self.kill_every,
            bootstrap: common.bootstrap.clone(),
            security: common.security()?,
            command_config: common.command_config.clone(),
            span: self.until.unwrap_or(Span::YEAR),
            executable: std::env::current_exe()?,
        };
        let lines = if common.json { Lines::Stderr } else { Lines::Stdout };
        let show = Show::new(lines, std::io::stderr().is_terminal() && !common.json);
        let (report, living) = match headwater_demo::live(&options, &show, signalled()).await {
            Err(error) if error.is::<Interrupted>() => {
                output::note(&error.to_string());
                return Ok(ExitCode::from(INTERRUPTED));
            }
            done => done.map_err(failure)?,
        };
        match common.json {
            true => output::json(&report.json()),
            false => output::line(&format!("\n{report}")),
        }
        if self.keep {
            show.say(&format!("\n{}", living.hints(&options)));
            living.stay(&options, signalled()).await.map_err(failure)?;
        } else {
            living.stop().await.map_err(failure)?;
        }
        Ok(if report.is_equal() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The flights service as a process of its own, for `demo --kill-every`; its settings are environment variables.
#[derive(clap::Args)]
pub struct Service {}

impl Service {
    pub async fn run(self) -> Result<ExitCode, Failure> {
        headwater_demo::serve().await.map_err(failure)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn failure(error: anyhow::Error) -> Failure {
    Failure::new(output::UNAVAILABLE, format_args!("{error:#}"), None)
}

fn span(text: &str) -> Result<Span, String> {
    Span::until(text).map_err(|error| format!("{error:#}"))
}

/// `500ms`, `5s`, `2m`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is not a time like 5s"))?;
    let duration = match &text[digits.len()..] {
        "ms" => Duration::from_millis(number),
        "" | "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        unit => return Err(format!("{unit:?} is not a unit of time; use ms, s or m")),
    };
    match duration.as_millis() {
        0 => Err("it must be longer than nothing".to_owned()),
        _ => Ok(duration),
    }
}
