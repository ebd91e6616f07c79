//! `headwater restore`: a data directory of a backup, or a look at whether it could be one.

use std::path::PathBuf;
use std::process::ExitCode;

use headwater_log::backup::{self, Checked, Manifest};
use indicatif::BinaryBytes;
use serde_json::json;

use super::backup::{damage_json, keeping, print_damage, with_progress};
use crate::Common;
use crate::output::{self, Failure};

#[derive(clap::Args)]
pub struct Restore {
    /// Where backups are kept: a directory or s3://BUCKET/PREFIX
    #[arg(long, value_name = "BACKUP")]
    from: String,
    /// The new data directory; it must be empty or not there
    #[arg(long, value_name = "NEW", required_unless_present = "verify_only", conflicts_with = "verify_only")]
    data_dir: Option<PathBuf>,
    /// Which backup: its id, the beginning of it, or its number [default: the latest]
    #[arg(long, value_name = "ID")]
    at: Option<String>,
    /// Read all of the backup and change nothing; exit code 1 when something is damaged
    #[arg(long)]
    verify_only: bool,
}

impl Restore {
    pub async fn run(self, common: &Common) -> Result<ExitCode, Failure> {
        let Self { from, data_dir, at, .. } = self;
        let Some(data_dir) = data_dir else {
            let work = move |watch: &mut dyn FnMut(_)| {
                keeping(&from, |from| backup::verify_backup(from, at.as_deref(), watch))
            };
            let (manifest, checked) = with_progress(common, work).await?;
            return Ok(verified(common, &manifest, &checked));
        };
        let target = data_dir.clone();
        let (manifest, restored) = with_progress(common, move |watch| {
            keeping(&from, |from| backup::restore_directory(from, at.as_deref(), &target, watch))
        })
        .await?;
        if common.json {
            output::json(&json!({
                "restored": manifest.id, "created": manifest.created, "cluster_id": manifest.cluster_id,
                "last_commit": restored.last_commit, "partitions": restored.partitions,
                "bytes": restored.bytes, "damage": damage_json(&restored.damage),
            }));
        } else {
            output::line(&format!(
                "restored {} of {}: {}, {} to commit {}; every byte was compared",
                manifest.id,
                manifest.created,
                output::count(restored.partitions, "partition"),
                BinaryBytes(restored.bytes),
                restored.last_commit,
            ));
            print_damage("the log was damaged when it was copied", &restored.damage);
            output::line(&format!("start it: headwater up --data-dir {}", data_dir.display()));
        }
        Ok(if restored.damage.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn verified(common: &Common, manifest: &Manifest, checked: &Checked) -> ExitCode {
    let whole = checked.problems.is_empty() && checked.damage.is_empty();
    if common.json {
        let problem = |(file, reason): &(String, String)| json!({ "file": file, "reason": reason });
        output::json(&json!({
            "backup": manifest.id, "whole": whole, "bytes": checked.bytes,
            "problems": checked.problems.iter().map(problem).collect::<Vec<_>>(),
            "damage": damage_json(&checked.damage),
        }));
        return if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    for (file, reason) in &checked.problems {
        output::line(&format!("{file} is damaged: {reason}"));
    }
    print_damage("the log in it is damaged", &checked.damage);
    if whole {
        output::line(&format!(
            "{} of {} is whole: {} in {}, to commit {}",
            manifest.id,
            manifest.created,
            BinaryBytes(checked.bytes),
            output::count(manifest.files.len(), "file"),
            manifest.last_commit,
        ));
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}
