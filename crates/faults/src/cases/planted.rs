//! The checker checks itself: a broker, or a client, that makes one known mistake must be found out, by the right names.

use std::time::Duration;

use anyhow::{Result, bail};
use headwater_client::planted::{Bug, plant};
use headwater_history::Kind;
use headwater_wire::ApiKey;

use super::fsync::noticed;
use super::histories::{Scene, cast, judged};
use crate::case::{Case, Extent, Need, Run};
use crate::clients::{Cast, Language, Trouble};
use crate::proxy::{Keys, Mischief};
use crate::verify::Violation;

/// So many plays, with other seeds, before a mistake counts as not found.
const PLAYS: u64 = 4;

struct Planted {
    bug: &'static str,
    /// The client's; the others are the broker's.
    client: Option<Bug>,
    cast: Cast,
    troubles: Vec<Trouble>,
    mischief: Mischief,
    /// What the checker must find one of.
    kinds: &'static [Kind],
}

fn find(run: &Run, planted: &Planted) -> Result<Option<Vec<Violation>>> {
    if planted.client.is_some() && !plant(planted.client) {
        bail!("{} needs a harness that was built with `--features planted-bugs`", planted.bug);
    }
    let found = found(run, planted);
    plant(None);
    found
}

fn found(run: &Run, planted: &Planted) -> Result<Option<Vec<Violation>>> {
    let mut others = Vec::new();
    for play in 0..PLAYS {
        let directory = run.directory.join(play.to_string());
        std::fs::create_dir_all(&directory)?;
        let scene = Scene {
            cast: planted.cast.clone(),
            troubles: planted.troubles.clone(),
            mischief: planted.mischief.clone(),
            lasting: Duration::from_secs(2),
            pause_ms: 1..2,
            planted: planted.client.is_none().then_some(planted.bug),
        };
        let verdict = judged(&run.again(play, directory), &scene)?;
        if let Some(anomaly) = verdict.anomalies.iter().find(|found| planted.kinds.contains(&found.kind)) {
            run.note(format!("found by {anomaly}"));
            return Ok(Some(Vec::new()));
        }
        others.extend(verdict.anomalies.iter().map(ToString::to_string));
    }
    let text = format!("{} was not found: none of {:?}, only {others:?}", planted.bug, planted.kinds);
    Ok(Some(vec![noticed(text)]))
}

fn ours(run: &Run) -> Cast {
    Cast { ours: 6, ..cast(run) }
}

fn calm() -> Mischief {
    Mischief::default()
}

const EXTENT: Extent = Extent { runs: 1, seconds: 1 };

const UNHEARD_COMMIT: Case = Case {
    name: "planted-abort-unheard-commit",
    promise: "—",
    about: "our client takes a commit whose answer it did not get as aborted",
    needs: &[],
    quick: EXTENT,
    long: EXTENT,
    run: unheard_commit,
};

/// Most answers to ends are lost, and nobody asks for long.
fn unheard_commit(run: &Run) -> Result<Option<Vec<Violation>>> {
    let planted = Planted {
        bug: "AbortUnheardCommit",
        client: Some(Bug::AbortUnheardCommit),
        cast: Cast { transactional: 1, patience: Duration::from_millis(100), ..ours(run) },
        troubles: vec![Trouble::Nothing],
        mischief: Mischief { keys: Keys::of(&[ApiKey::EndTxn]), cut_answer: 0.7, ..calm() },
        kinds: &[Kind::AbortedRead],
    };
    find(run, &planted)
}

macro_rules! planted {
    ($($name:literal plants $bug:ident about $about:literal needs $needs:expr, finds [$($kind:ident),*] $scene:expr;)*) => {
        /// `cargo xtask faults planted`
        pub const PLANTED: &[Case] = &[UNHEARD_COMMIT, $(Case {
            name: $name,
            promise: "—",
            about: $about,
            needs: $needs,
            quick: EXTENT,
            long: EXTENT,
            run: |run| {
                let scene: fn(&Run) -> (Cast, Vec<Trouble>, Mischief) = $scene;
                let (cast, troubles, mischief) = scene(run);
                let bug = stringify!($bug);
                let client = None;
                find(run, &Planted { bug, client, cast, troubles, mischief, kinds: &[$(Kind::$kind),*] })
            },
        }),*];

        #[cfg(test)]
        const ALL: &[(&str, &str)] = &[$(($name, stringify!($bug))),*];
    };
}

planted! {
    "planted-append-retries" plants AppendRetries about "a retry is appended again" needs &[],
    finds [Duplicate] |run| {
        let mischief = Mischief { keys: Keys::of(&[ApiKey::Produce]), cut_answer: 0.2, ..calm() };
        (ours(run), vec![Trouble::Nothing], mischief)
    };
    "planted-hide-aborted" plants HideAborted about "readers are not told of aborted transactions" needs &[],
    finds [AbortedRead] |run| (ours(run), vec![Trouble::Nothing], calm());
    "planted-read-open" plants ReadOpen about "open transactions do not hold committed readers back" needs &[],
    finds [IntermediateRead] |run| (Cast { transactional: 1, ..ours(run) }, vec![Trouble::Nothing], calm());
    "planted-end-any-epoch" plants EndAnyEpoch about "a late EndTxn ends the next transaction" needs &[Need::JavaClients],
    finds [LostWrite, AbortedRead, IntermediateRead, Unseen] |run| {
        let cast = Cast { foreign: vec![(Language::Java, 6)], transactional: 1, ..cast(run) };
        let mischief =
            Mischief { keys: Keys::of(&[ApiKey::EndTxn]), again: 0.6, late_ms: 1..60, ..calm() };
        (cast, vec![Trouble::Nothing], mischief)
    };
    "planted-acknowledge-early" plants AcknowledgeEarly about "an acknowledged batch is lost by a kill, and its offset given again" needs &[],
    finds [TwoValuesAtOneOffset, LostWrite, Unseen] |run| (ours(run), vec![Trouble::Kill], calm());
    "planted-tear-commits" plants TearCommits about "a commit reaches the first partition only" needs &[],
    finds [LostWrite, Unseen] |run| (ours(run), vec![Trouble::Nothing], calm());
    "planted-take-what-follows" plants TakeWhatFollows about "a batch is refused and the next one taken" needs &[],
    finds [InversionInSend] |run| (ours(run), vec![Trouble::Nothing], calm());
    "planted-skip-records" plants SkipRecords about "some fetches begin one record too late" needs &[],
    finds [GapInPoll] |run| (ours(run), vec![Trouble::Nothing], calm());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever reads the documentation sees all of them, and all that the broker can make.
    #[test]
    fn the_table_is_in_the_documentation() {
        let book = include_str!("../../../../docs/reliability.md");
        for (case, bug) in ALL.iter().chain(&[(UNHEARD_COMMIT.name, "AbortUnheardCommit")]) {
            let both =
                |line: &&str| line.contains(&format!("`{bug}`")) && line.contains(&format!("`{case}`"));
            assert!(book.lines().any(|line| both(&line)), "{bug} by {case}");
        }
        let broker = include_str!("../../../broker/src/planted.rs");
        let listed = broker.lines().filter(|line| line.trim_start().starts_with("Bug::")).count();
        assert_eq!(listed, ALL.len(), "every mistake of crates/broker/src/planted.rs has its case");
    }
}
