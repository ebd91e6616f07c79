//! `headwater backup`: a copy of a data directory, whether a broker runs on it or not.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use headwater_log::ColdStore;
use headwater_log::backup::{
    self, BackupError, ColdFiles, Kept, Manifest, NamedDamage, OpenCold, Outcome, Progress, Stage,
};
use headwater_node::ColdObjects;
use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::Common;
use crate::output::{self, CANNOT_CREATE, DATA, Failure, INTERRUPTED, IO, NO_INPUT, UNAVAILABLE, USAGE};

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Backup {
    #[command(subcommand)]
    existing: Option<Existing>,
    /// What to copy; a broker may be running on it
    #[arg(long, value_name = "DIR", required = true)]
    data_dir: Option<PathBuf>,
    /// Where backups are kept: a directory or s3://BUCKET/PREFIX, new or with backups, of which what is there is not
    /// copied again
    #[arg(long, value_name = "BACKUP", required = true)]
    to: Option<String>,
    /// The broker's headwater.cold.store, when old files are there only; credentials as the broker's
    #[arg(long, value_name = "URL")]
    cold_store: Option<String>,
    /// Take what there is when the cold store has lost files, and name what is missing (exit code 1)
    #[arg(long, requires = "cold_store")]
    without_lost: bool,
    /// Go on where a backup to object storage was killed and has left its lock
    #[arg(long)]
    unlock: bool,
}

#[derive(clap::Subcommand)]
enum Existing {
    /// The backups in a directory
    List {
        #[arg(long, value_name = "BACKUP")]
        from: String,
    },
    /// Removes old backups, and the files that only they need
    Prune {
        #[arg(long, value_name = "BACKUP")]
        from: String,
        /// How many of the last ones stay
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
        keep: u32,
        /// Go on where a backup to object storage was killed and has left its lock
        #[arg(long)]
        unlock: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

impl Backup {
    pub async fn run(self, common: &Common) -> Result<ExitCode, Failure> {
        let Self { existing, data_dir, to, cold_store, without_lost, unlock } = self;
        match (existing, data_dir, to) {
            (Some(Existing::List { from }), _, _) => list(common, from).await,
            (Some(Existing::Prune { from, keep, yes: false, .. }), _, _) => {
                ask_to_prune(common, from, keep).await
            }
            (Some(Existing::Prune { from, keep, unlock, yes: true }), _, _) => {
                prune(common, from, keep, unlock).await
            }
            (None, Some(data_dir), Some(to)) => {
                outside(&data_dir, &to)?;
                let created = now();
                let outcome = with_progress(common, {
                    let to = to.clone();
                    move |watch| {
                        let open = cold_store.as_deref().map(opening);
                        let open = open.as_ref().map(|open| open as OpenCold<'_>);
                        let cold = ColdFiles { open, without_lost };
                        keeping(&to, |to| {
                            backup::back_up_directory(&data_dir, to, &created, unlock, &cold, watch)
                        })
                    }
                })
                .await?;
                Ok(report(common, &outcome, &to))
            }
            (None, _, _) => Err(Failure::internal("--data-dir and --to are both needed")),
        }
    }
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A backup within what it copies would copy itself, and be lost with it.
fn outside(data_dir: &Path, to: &str) -> Result<(), Failure> {
    if to.contains("://") {
        return Ok(());
    }
    let Ok(source) = data_dir.canonicalize() else { return Ok(()) };
    let to = std::path::absolute(to)?;
    // What is not there yet comes to be below what is.
    let there = to.ancestors().find_map(|part| part.canonicalize().ok());
    if there.is_some_and(|there| there.starts_with(&source)) {
        let what = format!("{} is inside {}, which it is to be a copy of", to.display(), source.display());
        return Err(Failure::new(USAGE, what, "name a directory elsewhere, best on another disk".to_owned()));
    }
    Ok(())
}

/// The plan.
async fn ask_to_prune(common: &Common, from: String, keep: u32) -> Result<ExitCode, Failure> {
    let place = from.clone();
    let listed = tokio::task::spawn_blocking(move || keeping(&place, backup::list_backups));
    let known: Vec<_> = listed.await.map_err(Failure::internal)??.into_iter().flatten().collect();
    let gone = known.len().saturating_sub(keep as usize);
    if gone == 0 {
        if common.json {
            output::json(&json!({ "removed": [], "files": 0, "bytes": 0 }));
        }
        output::note(&format!("nothing to remove: there are {}", output::count(known.len(), "backup")));
        return Ok(ExitCode::SUCCESS);
    }
    let ids: String =
        known.iter().take(gone).map(|one| format!("\n  {} of {}", one.id, one.created)).collect();
    let what = format!(
        "this would remove {} for ever, and the files that only they need; {} would stay:{ids}",
        output::count(gone, "backup"),
        known.len() - gone
    );
    Err(Failure::new(USAGE, what, format!("headwater backup prune --from {from} --keep {keep} --yes")))
}

async fn prune(common: &Common, from: String, keep: u32, unlock: bool) -> Result<ExitCode, Failure> {
    let pruning = tokio::task::spawn_blocking(move || {
        keeping(&from, |from| backup::prune_backups(from, keep as usize, &now(), unlock))
    });
    let pruned = pruning.await.map_err(Failure::internal)??;
    if common.json {
        output::json(&json!({ "removed": pruned.backups, "files": pruned.files, "bytes": pruned.bytes }));
    } else {
        output::line(&format!(
            "removed {} and {}, {}",
            output::count(pruned.backups.len(), "backup"),
            output::count(pruned.files, "file"),
            BinaryBytes(pruned.bytes)
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// A directory, or a place in object storage when it is a URL.
pub fn keeping<T>(
    place: &str,
    work: impl FnOnce(&Kept<'_>) -> Result<T, BackupError>,
) -> Result<T, BackupError> {
    if !place.contains("://") {
        return work(&Kept::Directory(PathBuf::from(place)));
    }
    let open = |part: &str| match ColdObjects::open(place, part, Handle::current(), Arc::default()) {
        Ok(objects) => Ok(Box::new(objects) as Box<dyn ColdStore>),
        Err(reason) => Err(BackupError::ObjectStore { url: place.to_owned(), reason }),
    };
    work(&Kept::Objects { url: place.to_owned(), open: &open }).map_err(|error| match error {
        // Without them the library asks the machine's cloud for some, and says that nobody answers there.
        BackupError::Io { what, source } if place.starts_with("s3:") && !has_credentials() => {
            let reason = format!("{what}: {source} (AWS_ACCESS_KEY_ID is not set)");
            BackupError::ObjectStore { url: place.to_owned(), reason }
        }
        other => other,
    })
}

fn has_credentials() -> bool {
    std::env::var_os("AWS_ACCESS_KEY_ID").is_some_and(|id| !id.is_empty())
}

/// The way to a cluster's place in a cold store.
fn opening(url: &str) -> impl Fn(&str) -> Result<Box<dyn ColdStore>, BackupError> + use<'_> {
    move |cluster_id| match ColdObjects::open(url, cluster_id, Handle::current(), Arc::default()) {
        Ok(objects) => Ok(Box::new(objects)),
        Err(reason) => Err(BackupError::ColdStore { url: url.to_owned(), reason }),
    }
}

fn told(manifest: &Manifest) -> Value {
    json!({
        "backup": manifest.id, "created": manifest.created, "cluster_id": manifest.cluster_id,
        "last_commit": manifest.last_commit, "topics": manifest.totals.topics,
        "partitions": manifest.totals.partitions, "bytes": manifest.totals.bytes,
        "files": manifest.files.len(), "file_bytes": manifest.totals.file_bytes,
        "damage": damage_json(&manifest.damage),
    })
}

fn report(common: &Common, outcome: &Outcome, to: &str) -> ExitCode {
    let Outcome { manifest, copied_files, copied_bytes } = outcome;
    if common.json {
        let mut told = told(manifest);
        told["copied_files"] = json!(copied_files);
        told["copied_bytes"] = json!(copied_bytes);
        output::json(&told);
    } else {
        output::line(&format!(
            "backup {} to commit {}: {}, {} in {}; {} copied in {copied_files}, the others were there",
            manifest.id,
            manifest.last_commit,
            output::count(manifest.totals.partitions, "partition"),
            BinaryBytes(manifest.totals.file_bytes),
            output::count(manifest.files.len(), "file"),
            BinaryBytes(*copied_bytes),
        ));
        print_damage("the log is damaged, and so is its copy", &manifest.damage);
        output::line(&format!("restore: headwater restore --from {to} --at {} --data-dir NEW", manifest.id));
    }
    if manifest.damage.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn list(common: &Common, from: String) -> Result<ExitCode, Failure> {
    let mut rows = Vec::new();
    let mut code = ExitCode::SUCCESS;
    let listed = tokio::task::spawn_blocking(move || keeping(&from, backup::list_backups));
    for manifest in listed.await.map_err(Failure::internal)?? {
        let manifest = match manifest {
            Ok(manifest) => manifest,
            Err(error) => {
                code = ExitCode::FAILURE;
                output::note(&format!("error: {error}"));
                continue;
            }
        };
        if common.json {
            output::json(&told(&manifest));
        }
        rows.push(vec![
            manifest.id,
            manifest.created,
            output::number(manifest.last_commit as i64),
            output::number(manifest.totals.partitions as i64),
            size(manifest.totals.file_bytes),
            if manifest.damage.is_empty() { "whole".to_owned() } else { "of a damaged log".to_owned() },
        ]);
    }
    if !common.json {
        output::table(&["BACKUP", "CREATED", "COMMIT#", "PARTITIONS#", "SIZE#", "STATE"], rows);
    }
    Ok(code)
}

/// Short on a terminal, exact in a pipe.
fn size(bytes: u64) -> String {
    if output::is_terminal() { BinaryBytes(bytes).to_string() } else { bytes.to_string() }
}

pub fn damage_json(damage: &[NamedDamage]) -> Vec<Value> {
    let named = |damage: &NamedDamage| {
        json!({
            "partition": damage.partition, "first": damage.first, "last": damage.last, "file": damage.file,
            "reason": damage.reason,
        })
    };
    damage.iter().map(named).collect()
}

pub fn print_damage(what: &str, damage: &[NamedDamage]) {
    if damage.is_empty() {
        return;
    }
    output::line(&format!("{what}; these offsets cannot be read:"));
    for damage in damage {
        output::line(&format!(
            "  {} {} to {} in {}: {}",
            damage.partition, damage.first, damage.last, damage.file, damage.reason
        ));
    }
}

/// Runs work on the disk beside the runtime, with a bar where a person looks on, until Ctrl-C.
pub async fn with_progress<T: Send + 'static>(
    common: &Common,
    work: impl FnOnce(&mut dyn FnMut(Progress)) -> Result<T, BackupError> + Send + 'static,
) -> Result<T, Failure> {
    output::to_the_end();
    let bar = if common.json { ProgressBar::hidden() } else { ProgressBar::new(0) };
    if let Ok(style) = ProgressStyle::with_template(
        "{msg:9} {bar:30} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left",
    ) {
        bar.set_style(style);
    }
    let shown = bar.clone();
    let task = tokio::task::spawn_blocking(move || {
        work(&mut |progress: Progress| {
            shown.set_message(match progress.stage {
                Stage::Copying => "copying",
                Stage::Checking => "checking",
            });
            shown.set_length(progress.total);
            shown.set_position(progress.done);
        })
    });
    let done = tokio::select! {
        done = task => done,
        _ = tokio::signal::ctrl_c() => {
            bar.finish_and_clear();
            let next = "run it again: a backup goes on from there; remove the directory of a restore first";
            return Err(Failure::new(INTERRUPTED, "stopped before the end", next.to_owned()));
        }
    };
    bar.finish_and_clear();
    Ok(done.map_err(Failure::internal)??)
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let code = match &error {
            BackupError::NotHeadwater { .. }
            | BackupError::NotABackup { .. }
            | BackupError::Unknown { .. } => NO_INPUT,
            BackupError::Format { .. }
            | BackupError::OtherCluster { .. }
            | BackupError::Damaged { .. }
            | BackupError::Manifest { .. }
            | BackupError::Cold { .. }
            | BackupError::ColdStore { .. }
            | BackupError::ObjectStore { .. }
            | BackupError::ColdLost { .. } => DATA,
            BackupError::Busy(_) | BackupError::Locked { .. } | BackupError::Moving(_) => UNAVAILABLE,
            BackupError::NotEmpty(_) | BackupError::Unfinished(_) => CANNOT_CREATE,
            BackupError::NoSpace { .. } | BackupError::Log(_) | BackupError::Io { .. } => IO,
        };
        let next = match &error {
            BackupError::NotABackup { .. } => {
                "name what --to of headwater backup named: headwater backup list --from BACKUP"
            }
            BackupError::Io { .. } => {
                "a directory that this user may read and write, with space; --to and --from take no file"
            }
            _ => "headwater doctor, where a broker runs on the data directory",
        };
        Self::with_advice(code, error).or_try(next)
    }
}
