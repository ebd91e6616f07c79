//! Session windows: interactions are grouped by user and aggregated; a session is told once, after 30 minutes without activity.
//!
//! Interactions come up to eight minutes out of order. One that comes hours late belongs to a session that has been told: it is
//! left out and goes to a topic of its own.

mod answer;
mod input;
mod topology;

use anyhow::{Result, ensure};
use headwater_stage::{Event, Options, Output, Row, Stage};

pub use answer::answer;
pub use input::{Happened, draw, end, events, over};
pub use topology::{GAP, GRACE, Interaction, Session, topology};

/// The sessions that were told, in order of their users.
pub fn told(rows: &[Row<Session>]) -> Vec<(String, Session)> {
    let mut sessions: Vec<_> =
        rows.iter().filter_map(|(user, session, _)| Some((user.clone(), session.clone()?))).collect();
    sessions.sort();
    sessions
}

/// Lets a day go by and compares.
pub async fn run(options: &Options) -> Result<String> {
    let stage = Stage::open(options, "book-sessions").await?;
    let id = stage.application_id().to_owned();
    let happened = draw(options.seed, stage.begin());
    let right = answer(&happened);
    stage.create(&["interactions", "sessions", "late"]).await?;
    let app = stage.start(topology(&id)?).await?;
    stage.feed(events(&id, &happened)).await?;
    stage.feed(end(&id, &happened, options.partitions)).await?;
    stage.feed([forgotten(&id, &happened)]).await?;

    let mut late: Output<Interaction> = stage.output("late").await?;
    late.until("what is late is told", |late| !late.rows().is_empty()).await?;
    let mut sessions: Output<Session> = stage.output("sessions").await?;
    sessions.until("all sessions are told", |sessions| sessions.rows().len() >= right.len()).await?;
    app.stop().await?;
    sessions.to_the_end().await?;
    let told = told(sessions.rows());
    ensure!(told == right, "{} sessions were told, {} are right, or they differ", told.len(), right.len());
    ensure!(late.rows().len() == 1, "{} interactions are late, not 1", late.rows().len());
    stage.close().await?;
    let (all, count) = (happened.len(), told.len());
    Ok(format!(
        "sessions: {all} interactions in {count} sessions, each told once; 1 came too late and was set aside\n"
    ))
}

/// The first interaction of all, once more, when its session has long been told.
pub fn forgotten(application_id: &str, happened: &[Happened]) -> Event {
    let first: Vec<Happened> = happened.iter().take(1).cloned().collect();
    events(application_id, &first).remove(0)
}
