//! `headwater topology migrate`: state of the version that ran, brought to where the new one looks for it.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;

use headwater_model::TopicPartition;
use headwater_runtime::migrate::{self, MigrateError, MigrationPlan, Options};
use headwater_streams::{Fate, Migration, Renames};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::connect;
use super::sample::{Parts, Sample, Speed, for_seconds, plain};
use super::topology::load;
use crate::Common;
use crate::output::{self, DATA, Failure, UNAVAILABLE};

#[derive(clap::Args)]
pub struct Migrate {
    /// The version that ran: a file of JSON (headwater topology describe --json), or the address of an instance
    old: String,
    /// The version that is to run
    new: String,
    /// An operator, a store or a repartition that has another name now; what is called by it follows
    #[arg(long, value_name = "OLD=NEW", value_parser = pair)]
    rename: Vec<(String, String)>,
    /// A store of the new version that is to be made of its input again
    #[arg(long, value_name = "STORE")]
    rebuild: Vec<String>,
    /// Delete what is in the way under the new names, left by an attempt at the new version
    #[arg(long)]
    replace: bool,
    /// Do it once more, although it was done: the old version has run since
    #[arg(long)]
    again: bool,
    /// Records in one transaction
    #[arg(long, default_value_t = 1_000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Of the topics that are made; the broker's default without it
    #[arg(long, value_name = "FACTOR")]
    replication: Option<i16>,
    #[command(flatten)]
    speed: Speed,
    /// Seconds to read for, to learn how fast that is
    #[arg(long, default_value_t = 2, value_name = "SECONDS")]
    sample: u64,
    /// Do it: no instance may run. Without this the plan is printed, and nothing is changed
    #[arg(long)]
    execute: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (old, new) = text.split_once('=').ok_or_else(|| "it is OLD=NEW".to_owned())?;
    Ok((old.to_owned(), new.to_owned()))
}

fn failed(error: MigrateError) -> Failure {
    match error {
        MigrateError::Client { source, .. } => source.into(),
        interrupted @ MigrateError::Interrupted => Failure::new(UNAVAILABLE, interrupted, None),
        refused => Failure::new(DATA, refused, None),
    }
}

impl Migrate {
    pub async fn run(self, common: &Common) -> Result<ExitCode, Failure> {
        let (old, new) = (load(&self.old, common).await?, load(&self.new, common).await?);
        let migration =
            Migration::between(&old, &new, &Renames::new(self.rename.iter().cloned()), &self.rebuild)
                .map_err(|refused| Failure::new(DATA, refused, None))?;
        let options = Options {
            batch: self.batch as usize,
            replace: self.replace,
            again: self.again,
            replication: self.replication.unwrap_or(-1),
        };
        let client = connect(common).await?;
        let plan = migrate::plan(&client, &migration, &new, &options).await.map_err(failed)?;
        let estimate = self.estimate(&client, &plan, common).await?;
        if self.execute {
            output::to_the_end();
        }
        self.tell(&plan, &estimate, common);
        if !self.execute || plan.done {
            return Ok(ExitCode::SUCCESS);
        }
        let bar = bar(&plan, common);
        let progress = |done: migrate::Progress| {
            bar.set_position(u64::try_from(done.offsets).unwrap_or(0));
            bar.set_message(format!("{} records copied", output::number(done.records as i64)));
            ControlFlow::Continue(())
        };
        let executed = migrate::execute(&client, &migration, &new, &options, progress).await;
        bar.finish_and_clear();
        executed.map_err(failed)?;
        let next = self.next(&migration);
        match common.json {
            true => output::json(&json!({ "migrated": true, "next": next })),
            false => output::line(&format!("\nmigrated; {next}")),
        }
        Ok(ExitCode::SUCCESS)
    }

    fn next(&self, migration: &Migration) -> String {
        let application = &migration.application_id;
        match migration.again {
            Some(_) => format!(
                "now remove <state_dir>/{application} of every instance, as some of its stores are those of before, and start the new version"
            ),
            None => "now start the new version".to_owned(),
        }
    }

    async fn estimate(
        &self,
        client: &headwater_client::Client,
        plan: &MigrationPlan,
        common: &Common,
    ) -> Result<Estimate, Failure> {
        let patience = Duration::from_secs(self.sample);
        let mut parts = Parts::new();
        for part in &plan.copies {
            parts.insert(TopicPartition::new(part.from.as_str(), part.partition), (part.next, part.end));
        }
        let copied = Sample::take(client, &parts, patience).await?;
        let mut parts = Parts::new();
        for part in plan.resets.iter().filter(|part| !part.skipped) {
            parts.insert(TopicPartition::new(part.topic.as_str(), part.partition), (part.from, part.end));
        }
        let read = Sample::take(client, &parts, patience).await?;
        // An instance is asked only if it has anything to do.
        let (speed, by) = match plan.resets.is_empty() {
            true => (0.0, String::new()),
            false => self.speed.of(&read, &plan.migration.application_id, common).await?,
        };
        let (records, processed) = (records(&copied, plan.to_copy()), records(&read, plan.to_process()));
        // What is read is written as well.
        let copying = (copied.records > 0).then(|| 2.0 * records * copied.seconds / copied.records as f64);
        let processing = (speed > 0.0).then(|| processed / speed);
        Ok(Estimate { records, copying, processed, processing, by })
    }

    fn tell(&self, plan: &MigrationPlan, estimate: &Estimate, common: &Common) {
        if common.json {
            output::json(&json!({
                "plan": plan, "records_to_copy": estimate.records, "seconds_to_copy": estimate.copying.map(f64::ceil),
                "records_to_process": estimate.processed, "seconds_to_process": estimate.processing.map(f64::ceil),
            }));
            return;
        }
        let rows = plan.migration.stores.iter().map(|step| {
            let (fate, more) = match &step.fate {
                Fate::Kept => ("kept", String::new()),
                Fate::Renamed { from } => ("copied", format!("from {from}")),
                Fate::Rebuilt { why } => ("rebuilt", why.clone()),
                Fate::New => ("new", "it begins empty; --rebuild makes it of its input".to_owned()),
                Fate::Gone => ("gone", "its changelog stays, and may be deleted".to_owned()),
            };
            let changelog = step.changelog.clone().unwrap_or_else(|| "-".to_owned());
            vec![step.store.clone(), fate.to_owned(), changelog, more]
        });
        output::table(&["STORE", "STATE", "CHANGELOG", ""], rows.collect());
        for line in lines(plan, estimate) {
            output::line(&line);
        }
        if !self.execute {
            output::line("a plan: nothing is changed without --execute");
        }
    }
}

fn lines(plan: &MigrationPlan, estimate: &Estimate) -> Vec<String> {
    let mut lines = vec![String::new()];
    if plan.done {
        let done = "this migration has been carried out: there is nothing to do; if the old version has run since, --again does it once more";
        lines.push(done.to_owned());
        return lines;
    }
    if plan.migration.is_empty() {
        lines.push("the new version finds everything where it looks for it".to_owned());
    }
    if plan.members > 0 {
        lines.push(format!(
            "{} members are in the group: it is carried out only when they have stopped",
            plan.members
        ));
    }
    let about = |seconds: Option<f64>| {
        seconds.map_or("for a time that is not known".to_owned(), |seconds| {
            format!("for about {}", plain(for_seconds(seconds.ceil())))
        })
    };
    let number = |count: f64| output::number(count.round() as i64);
    if !plan.copies.is_empty() {
        let more = if plan.resumed { ", from where the last run came to" } else { "" };
        lines.push(format!(
            "copied: about {} records, {}{more}",
            number(estimate.records),
            about(estimate.copying)
        ));
        for copied in &plan.migration.copies {
            let offsets =
                plan.copies.iter().filter(|part| part.from == copied.from).map(|part| part.end - part.next);
            let count = output::number(offsets.sum());
            lines.push(format!("    {} → {}, {count} offsets", copied.from, copied.to));
        }
    }
    if !plan.migration.clocks.is_empty() {
        let names: Vec<String> =
            plan.migration.clocks.iter().map(|(old, new)| format!("{old} → {new}")).collect();
        lines.push(format!("clocks that are committed under other names: {}", names.join(", ")));
    }
    if let Some(again) = &plan.migration.again {
        lines.push(format!(
            "processed again when the new version starts: about {} records, {} ({})",
            number(estimate.processed),
            about(estimate.processing),
            estimate.by
        ));
        for part in &plan.resets {
            let at = TopicPartition::new(part.topic.as_str(), part.partition);
            let committed = part.committed.map_or_else(|| "-".to_owned(), output::number);
            let (from, end) = (output::number(part.from), output::number(part.end));
            match part.skipped {
                true => lines
                    .push(format!("    {at}: what is in it is left out (up to {end}), as it comes again")),
                false => lines.push(format!("    {at}: from {from} to {end}, committed {committed}")),
            }
        }
        lines.push(format!("changelogs that are deleted: {}", list(&plan.deleted)));
        lines.push(format!("written again, unless skip_reprocessed comes before: {}", list(&again.sinks)));
        if !again.nondeterministic.is_empty() {
            lines.push(format!("may have other results than before: {}", list(&again.nondeterministic)));
        }
    }
    if !plan.cut.is_empty() {
        lines.push(format!("input that is not all there any more: {}", list(&plan.cut)));
    }
    if !plan.replaced.is_empty() {
        lines.push(format!("deleted first, as they are in the way: {}", list(&plan.replaced)));
    }
    lines
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

struct Estimate {
    records: f64,
    copying: Option<f64>,
    processed: f64,
    processing: Option<f64>,
    by: String,
}

/// Offsets of markers and of what compaction removed are no records.
fn records(sample: &Sample, offsets: i64) -> f64 {
    if sample.offsets > 0 { offsets as f64 * sample.records as f64 / sample.offsets as f64 } else { 0.0 }
}

fn bar(plan: &MigrationPlan, common: &Common) -> ProgressBar {
    if common.json || plan.copies.is_empty() {
        return ProgressBar::hidden();
    }
    // It draws on standard error, and only on a terminal.
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} offsets, {msg}");
    let total = u64::try_from(plan.to_copy()).unwrap_or(0);
    ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
