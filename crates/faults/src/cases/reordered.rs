//! txn-1 and wire-10: messages of the transaction protocol that lose their answer, come twice, or come too late,
//! over another connection than the one they were sent on.

use std::time::Duration;

use anyhow::Result;
use headwater_wire::ApiKey;

use super::histories::{Scene, WRITING, cast, play};
use crate::case::{Case, Extent, Need, Run};
use crate::clients::{Cast, Language, Trouble};
use crate::proxy::{Keys, Mischief};
use crate::verify::Violation;

pub const LOST_ANSWERS: Case = Case {
    name: "wire-10-lost-answers",
    promise: "P4",
    about: "the answer alone is cut, of one in six writing requests: retries add nothing, offsets stay",
    needs: &[],
    quick: Extent { runs: 1, seconds: 8 },
    long: Extent { runs: 200, seconds: 1800 },
    run: lost_answers,
};

pub const LATE_V2: Case = Case {
    name: "txn-1-late-v2",
    promise: "P4",
    about: "EndTxn, Produce, AddPartitions, TxnOffsetCommit come late or once more (Java, KIP-890): never in the next transaction",
    needs: &[Need::JavaClients],
    quick: Extent { runs: 1, seconds: 8 },
    long: Extent { runs: 200, seconds: 1800 },
    run: |run| {
        late(run, Cast { foreign: vec![(Language::Java, 8)], transactional: 1, ..cast(run) }, &WRITING)
    },
};

pub const LATE_OURS: Case = Case {
    name: "txn-1-late-ours",
    promise: "P4",
    about: "the same with our clients, which give up commits and abort them (KIP-890)",
    needs: &[],
    quick: Extent { runs: 1, seconds: 8 },
    long: Extent { runs: 200, seconds: 1800 },
    run: late_ours,
};

pub const LATE_V1: Case = Case {
    name: "txn-1-late-v1",
    promise: "P4",
    about: "Produce, AddPartitions come late or once more to clients of the older protocol (librdkafka)",
    needs: &[Need::ConfluentKafka],
    quick: Extent { runs: 1, seconds: 8 },
    long: Extent { runs: 200, seconds: 1800 },
    run: late_v1,
};

/// What the older protocol itself keeps apart; an EndTxn or InitProducerId that is late is beyond it, on any broker.
const KEPT_APART: [ApiKey; 1] = [ApiKey::Produce];

fn lost_answers(run: &Run) -> Result<Option<Vec<Violation>>> {
    let mischief = Mischief { keys: Keys::of(&WRITING), cut_answer: 0.16, ..Mischief::default() };
    let cast = Cast { ours: 8, ..cast(run) };
    play(run, &calm(run, cast, mischief))
}

fn late(run: &Run, cast: Cast, keys: &[ApiKey]) -> Result<Option<Vec<Violation>>> {
    let mischief = Mischief {
        keys: Keys::of(keys),
        cut_answer: 0.04,
        late: 0.06,
        again: 0.3,
        delay: 0.1,
        delay_ms: 1..100,
        late_ms: 1..400,
    };
    play(run, &calm(run, cast, mischief))
}

/// Commits are given up after a few attempts.
fn late_ours(run: &Run) -> Result<Option<Vec<Violation>>> {
    late(run, Cast { ours: 8, transactional: 1, patience: Duration::from_millis(100), ..cast(run) }, &WRITING)
}

fn late_v1(run: &Run) -> Result<Option<Vec<Violation>>> {
    let cast = Cast { foreign: vec![(Language::Python, 8)], transactional: 1, ..cast(run) };
    late(run, cast, &KEPT_APART)
}

/// The broker itself has no trouble.
fn calm(run: &Run, cast: Cast, mischief: Mischief) -> Scene {
    Scene {
        cast,
        troubles: vec![Trouble::Nothing],
        mischief,
        lasting: Duration::from_secs(if run.context.long { 20 } else { 5 }),
        pause_ms: 1..2,
        planted: None,
    }
}
