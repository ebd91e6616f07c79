//! `headwater doctor`: what holds things up, and what to do about it.
//!
//! Exit code 0 when there is nothing or there are only notes, 1 when there are warnings or failures.

use std::process::ExitCode;
use std::time::Duration;

use headwater_client::{HttpSecurity, without_password};
use headwater_node::{Diagnosis, Finding, Place, Severity};

use super::http;
use crate::output::{self, DATA, Failure, UNAVAILABLE};
use crate::{Common, waiting};

/// The node answers within a few seconds even when its disk does not.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  headwater doctor\n  headwater doctor --http http://10.0.0.7:8081 --json\n\nExit code: 0 nothing, or notes only; 1 warnings or failures; 69 no node answers; 77 it does not let you ask."
)]
pub struct Doctor {
    /// Base URL of the node [default: that of the registry]
    #[arg(long, value_name = "URL", env = "HEADWATER_URL", hide_env_values = true)]
    http: Option<String>,
}

/// Before `HEADWATER_URL` there was this name, which is also a service's: where it listens, HOST:PORT. A URL is meant for us.
const FORMER: &str = "HEADWATER_HTTP";

impl Doctor {
    pub async fn run(self, common: &Common) -> Result<ExitCode, Failure> {
        let former = || std::env::var(FORMER).ok().filter(|text| text.contains("://"));
        let (base, origin) = match self.http.filter(|url| !url.is_empty()).or_else(former) {
            Some(base) => (base, "--http"),
            None => (common.registry_url()?, "--registry"),
        };
        http::base(&base, origin)?;
        let base = base.trim_end_matches('/');
        let shown = without_password(base);
        let security = common.security()?;
        let text = waiting::with(&format!("an answer of {shown}"), ask(base, security.http())).await?;
        let diagnosis: Diagnosis = serde_json::from_str(&text).map_err(|error| {
            let what = format!("{shown}/api/diagnosis answers with something else: {error}");
            Failure::new(DATA, what, "headwater doctor --http URL of a Headwater node".to_owned())
        })?;
        if common.json {
            output::line(text.trim_end());
        } else if output::is_terminal() {
            for_people(&shown, &diagnosis);
        } else {
            for_pipes(&diagnosis);
        }
        let is_serious = diagnosis.findings.iter().any(|finding| finding.severity != Severity::Note);
        Ok(ExitCode::from(u8::from(is_serious)))
    }
}

async fn ask(base: &str, security: &HttpSecurity) -> Result<String, Failure> {
    let otherwise = "headwater doctor --http URL; headwater up prints the URL as \"console\"";
    let node = http::Asked { security, whom: "node", otherwise };
    let url = http::base(&format!("{base}/api/diagnosis"), "--http")?;
    let request = node.request(reqwest::Method::GET, &url).await?.timeout(PATIENCE);
    node.answer(&url, request, UNAVAILABLE).await
}

fn looked_at(diagnosis: &Diagnosis) -> String {
    let looked = diagnosis.looked_at;
    let some = |count: usize, of: &str| output::count(count, of);
    format!(
        "looked at {} with {}, {}, {}, {}",
        some(looked.topics, "topic"),
        some(looked.partitions, "partition"),
        some(looked.files, "file"),
        some(looked.groups, "group"),
        some(looked.transactions, "open transaction"),
    )
}

fn count(diagnosis: &Diagnosis, severity: Severity) -> usize {
    diagnosis.findings.iter().filter(|finding| finding.severity == severity).count()
}

fn for_people(base: &str, diagnosis: &Diagnosis) {
    if diagnosis.findings.is_empty() {
        output::line(&format!("{base}   nothing found; {}", looked_at(diagnosis)));
        return;
    }
    let counts: Vec<String> = [Severity::Failure, Severity::Warning, Severity::Note]
        .into_iter()
        .filter_map(|severity| match count(diagnosis, severity) {
            0 => None,
            1 => Some(format!("1 {severity}")),
            more => Some(format!("{more} {severity}s")),
        })
        .collect();
    output::line(&format!("{base}   {}; {}", counts.join(", "), looked_at(diagnosis)));
    for finding in &diagnosis.findings {
        output::line("");
        output::line(&format!("{} {}", painted(finding.severity), output::visible(&finding.what)));
        let since = finding.since_ms.map(|at| ago(diagnosis.at_ms - at)).unwrap_or_default();
        for (label, text) in [
            ("where", place(&finding.place)),
            ("since", since),
            ("why", finding.why.clone()),
            ("try", finding.next.clone()),
        ] {
            if !text.is_empty() {
                output::line(&format!("  {label:<6}{}", output::visible(&text)));
            }
        }
    }
}

/// State by colour and by word.
fn painted(severity: Severity) -> String {
    let (colour, sign) = match severity {
        Severity::Failure => (31, "✗"),
        Severity::Warning => (33, "!"),
        Severity::Note => (36, "·"),
    };
    match output::may_be_coloured() {
        true => format!("\u{1b}[{colour}m{sign} {severity}\u{1b}[0m"),
        false => format!("{sign} {severity}"),
    }
}

fn for_pipes(diagnosis: &Diagnosis) {
    if diagnosis.findings.is_empty() {
        output::line(&format!("nothing found; {}", looked_at(diagnosis)));
        return;
    }
    let row = |finding: &Finding| {
        let since = finding.since_ms.map(|at| at.to_string()).unwrap_or_default();
        let cells = [
            finding.severity.to_string(),
            finding.kind.clone(),
            finding.what.clone(),
            place(&finding.place),
            since,
            finding.why.clone(),
            finding.next.clone(),
        ];
        cells.map(|cell| cell.replace(['\t', '\n'], " ")).to_vec()
    };
    let header = ["SEVERITY", "KIND", "WHAT", "WHERE", "SINCE_MS", "WHY", "TRY"];
    output::table(&header, diagnosis.findings.iter().map(row).collect());
}

fn place(place: &Place) -> String {
    let mut parts = Vec::new();
    if let Some(topic) = &place.topic {
        let partitions: Vec<String> = place.partitions.iter().take(8).map(i32::to_string).collect();
        let more = if place.partitions.len() > 8 { ",…" } else { "" };
        parts.push(match partitions.is_empty() {
            true => topic.clone(),
            false => format!("{topic}/{}{more}", partitions.join(",")),
        });
    }
    match (place.first_offset, place.last_offset) {
        (Some(first), Some(last)) => parts.push(format!("offsets {first} to {last}")),
        (Some(first), None) => parts.push(format!("from offset {first}")),
        _ => {}
    }
    parts.extend(place.group.as_ref().map(|group| format!("group {group}")));
    parts.extend(place.transactional_id.as_ref().map(|id| format!("transactional id {id}")));
    parts.extend(place.producer_id.map(|id| format!("producer {id}")));
    parts.extend(place.path.clone());
    parts.join(", ")
}

fn ago(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}
