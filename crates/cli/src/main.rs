//! The `headwater` command: noun, then verb.

// Whoever reads may go away, and a macro that prints would panic: `output` has what writes.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod commands;
mod output;
mod waiting;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser, Subcommand};

use commands::{
    acl, backup, dead_letters, demo, doctor, group, produce, quarantine, restore, schema, tail, topic,
    topology, transaction, up, user,
};
use headwater_client::Security;
use headwater_registry::RegistryClient;
use output::{Failure, USAGE};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(
    name = "headwater",
    version,
    about = "Event-driven microservices in one binary",
    max_term_width = 110
)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(clap::Args, Clone)]
pub struct Common {
    /// Kafka listener of a Headwater node, or an Apache Kafka
    #[arg(long, global = true, env = "HEADWATER_BOOTSTRAP", value_name = "HOST:PORT")]
    bootstrap: Option<String>,
    /// Properties file with Kafka's client keys for TLS and SASL
    #[arg(
        long,
        global = true,
        env = "HEADWATER_COMMAND_CONFIG",
        value_name = "FILE",
        value_parser = OsStringValueParser::new().map(PathBuf::from)
    )]
    command_config: Option<PathBuf>,
    #[arg(
        long,
        global = true,
        env = "HEADWATER_REGISTRY",
        hide_env_values = true,
        value_name = "URL",
        help = "Base URL of the schema registry [default: schema.registry.url of --command-config, else http://127.0.0.1:8081]"
    )]
    registry: Option<String>,
    /// Print JSON: one object, or one object a line
    #[arg(long, global = true)]
    json: bool,
}

impl Common {
    const DEFAULT_BOOTSTRAP: &str = "127.0.0.1:9092";
    const DEFAULT_REGISTRY: &str = "http://127.0.0.1:8081";

    /// A variable that is empty, as files that start containers leave it, is none.
    fn without_empty(self) -> Self {
        Self {
            bootstrap: self.bootstrap.filter(|text| !text.is_empty()),
            command_config: self.command_config.filter(|file| !file.as_os_str().is_empty()),
            registry: self.registry.filter(|text| !text.is_empty()),
            json: self.json,
        }
    }

    pub fn bootstrap(&self) -> &str {
        self.bootstrap.as_deref().unwrap_or(Self::DEFAULT_BOOTSTRAP)
    }

    /// Where registry and console are.
    pub fn registry_url(&self) -> Result<String, Failure> {
        if let Some(url) = &self.registry {
            return Ok(url.clone());
        }
        let security = self.security()?;
        Ok(security.http().registry_url().unwrap_or(Self::DEFAULT_REGISTRY).to_owned())
    }

    /// The registry's client, with TLS and identity of `--command-config`.
    pub fn registry(&self) -> Result<RegistryClient, Failure> {
        Ok(RegistryClient::secured(self.registry_url()?, &self.security()?)?)
    }

    /// TLS and SASL of `--command-config`; neither without it.
    pub fn security(&self) -> Result<Security, Failure> {
        let Some(file) = &self.command_config else { return Ok(Security::default()) };
        let next =
            format!("look at {}, which --command-config or HEADWATER_COMMAND_CONFIG names", file.display());
        Security::load(file).map_err(|error| Failure::new(output::DATA, error, next))
    }
}

#[derive(Subcommand)]
enum Command {
    /// Everything on this machine: broker, schema registry and console in one process
    Up(up::Up),
    /// The main job on real data, with its answer checked
    Demo(demo::Demo),
    /// The demo's service as a process of its own
    #[command(hide = true)]
    DemoService(demo::Service),
    /// Streams: list, describe, create, alter, delete
    #[command(subcommand)]
    Topic(topic::Topic),
    /// Consumer groups: list, describe, delete, reset
    #[command(subcommand)]
    Group(group::Group),
    /// Schemas: list, get, register, check
    #[command(subcommand)]
    Schema(schema::Schema),
    /// Access rules: list, add, remove
    #[command(subcommand)]
    Acl(acl::Acl),
    /// What a service does, what replacing it by a new version asks for, and doing its work again: describe, diff, migrate,
    /// reprocess
    #[command(subcommand)]
    Topology(topology::Topology),
    /// Records that services failed on: list, show, redrive, discard
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLetters),
    /// What a service holds back of keys that it failed on: list, release
    #[command(subcommand)]
    Quarantine(quarantine::Quarantine),
    /// Write events, one a line of standard input
    Produce(produce::Produce),
    /// Look at events
    Tail(tail::Tail),
    /// Users: add, list, delete
    #[command(subcommand)]
    User(user::User),
    /// Transactions: abort one that its producer does not end
    #[command(subcommand)]
    Transaction(transaction::Transaction),
    /// What holds things up, and what to do about it
    Doctor(doctor::Doctor),
    /// Copy a data directory, whether a broker runs on it or not
    Backup(backup::Backup),
    /// Make a data directory of a backup, or verify one
    Restore(restore::Restore),
    /// Print the completion script of a shell
    Completion { shell: clap_complete::Shell },
}

/// What is logged: `HEADWATER_LOG`, or warnings and errors.
fn log_filter() -> Result<EnvFilter, Failure> {
    let Some(text) = std::env::var_os("HEADWATER_LOG").filter(|text| !text.is_empty()) else {
        return Ok(EnvFilter::new("warn"));
    };
    let text = text.to_string_lossy();
    EnvFilter::try_new(&text).map_err(|error| {
        let what = format!("HEADWATER_LOG={text} says nothing of what to log: {error}");
        Failure::new(
            USAGE,
            what,
            "HEADWATER_LOG=info, or HEADWATER_LOG=warn,headwater_broker=debug".to_owned(),
        )
    })
}

/// clap names all subcommands where one is missing, those that are hidden, too.
fn exit(mut error: clap::Error) -> ! {
    let hidden = |name: &String| {
        let command = Arguments::command();
        command.find_subcommand(name).is_some_and(clap::Command::is_hide_set)
    };
    if let Some(ContextValue::Strings(names)) = error.get(ContextKind::ValidSubcommand) {
        let shown = names.iter().filter(|name| !hidden(name)).cloned().collect();
        error.insert(ContextKind::ValidSubcommand, ContextValue::Strings(shown));
    }
    error.exit()
}

fn main() -> ExitCode {
    let Arguments { common, command } = Arguments::try_parse().unwrap_or_else(|error| exit(error));
    let common = common.without_empty();
    let filter = match log_filter() {
        Ok(filter) => filter,
        Err(failure) => return failure.report(common.json),
    };
    // Standard error may be a file on the disk that has just filled up: failing to say so must end nothing.
    tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()) && output::may_be_coloured())
        .init();
    if let Command::Completion { shell } = command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Arguments::command(), "headwater", &mut script);
        output::write(&script);
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::internal(error).report(common.json),
    };
    let done = runtime.block_on(async {
        match command {
            Command::Up(up) => up.run(&common).await,
            Command::Demo(demo) => demo.run(&common).await,
            Command::DemoService(service) => service.run().await,
            Command::Topic(topic) => topic.run(&common).await,
            Command::Group(group) => group.run(&common).await,
            Command::Schema(schema) => schema.run(&common).await,
            Command::Acl(acl) => acl.run(&common).await,
            Command::Topology(topology) => topology.run(&common).await,
            Command::DeadLetters(letters) => letters.run(&common).await,
            Command::Quarantine(quarantine) => quarantine.run(&common).await,
            Command::Produce(produce) => produce.run(&common).await,
            Command::Tail(tail) => tail.run(&common).await,
            Command::User(user) => user.run(&common).await,
            Command::Transaction(transaction) => transaction.run(&common).await,
            Command::Doctor(doctor) => doctor.run(&common).await,
            Command::Backup(backup) => backup.run(&common).await,
            Command::Restore(restore) => restore.run(&common).await,
            Command::Completion { .. } => Ok(ExitCode::SUCCESS),
        }
    });
    // Blocking readers of standard input must not hold up the end.
    runtime.shutdown_background();
    match done {
        Ok(_) if output::is_lost() => ExitCode::from(output::SOFTWARE),
        Ok(code) => code,
        Err(failure) => failure.report(common.json),
    }
}
