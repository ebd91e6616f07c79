//! What a command waits for: after a while it is told, on standard error, with what was wrong last.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use headwater_client::{Client, Wait};
use indicatif::ProgressBar;

use crate::output;

/// So long nobody wonders.
const AFTER: Duration = Duration::from_secs(2);
const LOOKS: Duration = Duration::from_millis(200);

/// The line that a terminal shows; other output clears it first.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Looks on until the command ends.
pub fn watch(client: &Client) {
    let client = client.clone();
    tokio::spawn(async move {
        // A pipe is told once of each wait, and once more when there is a reason.
        let mut told: Option<(Instant, bool)> = None;
        loop {
            tokio::time::sleep(LOOKS).await;
            let Some(wait) = client.waits_for().filter(|wait| wait.since.elapsed() >= AFTER) else {
                clear();
                continue;
            };
            if std::io::stderr().is_terminal() {
                show(&text(&wait));
                continue;
            }
            let this = (wait.since, wait.last.is_some());
            if told != Some(this) {
                told = Some(this);
                output::note(&text(&wait));
            }
        }
    });
}

/// Runs what has no client yet, and says what is waited for when it takes long.
pub async fn with<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    let Ok(done) = tokio::time::timeout(AFTER, &mut work).await else {
        let text = format!("waiting for {what}");
        match std::io::stderr().is_terminal() {
            true => show(&text),
            false => output::note(&text),
        }
        let done = work.await;
        clear();
        return done;
    };
    done
}

fn text(wait: &Wait) -> String {
    match &wait.last {
        None => format!("waiting for {}", wait.what),
        Some(last) => {
            format!("waiting ({}): {last}; trying again", wait.what)
        }
    }
}

fn show(text: &str) {
    let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let bar = shown.get_or_insert_with(|| {
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(LOOKS);
        bar
    });
    bar.set_message(text.to_owned());
}

/// Takes the line away.
pub fn clear() {
    let shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(bar) = shown {
        bar.finish_and_clear();
    }
}
