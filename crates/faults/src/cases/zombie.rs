//! txn-3: a producer that was stopped for so long that another took its place, and that comes back.

use std::time::Duration;

use anyhow::Result;
use headwater_client::{Producer, ProducerConfig};
use headwater_history::{Event, EventKind, check};

use super::fsync::noticed;
use crate::case::{Case, Extent, Need, Run};
use crate::clients::{
    Cast, Foreign, Language, Recorder, Stage, connect, create_topics, now, read_everything, transactional_id,
};
use crate::verify::Violation;

pub const STOPPED: Case = Case {
    name: "txn-3-zombie",
    promise: "P4",
    about: "SIGSTOP of transactional producers (Java), others take their ids, SIGCONT: fenced, and what they had open is aborted",
    needs: &[Need::JavaClients],
    quick: Extent { runs: 1, seconds: 8 },
    long: Extent { runs: 100, seconds: 1800 },
    run: stopped,
};

const PROCESSES: u32 = 8;
const WORK: Duration = Duration::from_millis(1500);

fn stopped(run: &Run) -> Result<Option<Vec<Violation>>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let broker = run.launch(&run.data()).serve()?;
    let cast = Cast {
        ours: 0,
        foreign: vec![(Language::Java, PROCESSES)],
        transactional: 1,
        request_timeout: Duration::from_secs(2),
        patience: Duration::from_secs(2),
    };
    runtime.block_on(create_topics(&broker.address, PROCESSES))?;
    let recorder = Recorder::create(&run.directory.join("ours.jsonl"))?;
    let stage = Stage::new(&broker.address, run.seed, &run.directory);
    let program = Foreign::start(&stage, Language::Java, 0, PROCESSES, &cast)?;
    while !program.works() {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(WORK + Duration::from_millis(run.seed % 500));
    program.signal("STOP")?;
    let stopped = now();
    std::thread::sleep(Duration::from_millis(100));
    runtime.block_on(take_over(&broker.address))?;
    let fenced = now();
    program.signal("CONT")?;
    std::thread::sleep(WORK);
    let (events, broken, zombies) = judged(program.end()?, stopped, fenced);
    recorder.take_in(events);
    runtime.block_on(read_everything(&broker.address, PROCESSES, &recorder))?;
    let verdict = check(&recorder.events())?;
    run.tally("transactions that were open", zombies);
    run.tally("acknowledged values", verdict.counted.acknowledged);
    let mut violations: Vec<Violation> = broken.into_iter().map(noticed).collect();
    violations.extend(verdict.anomalies.iter().map(|anomaly| noticed(anomaly.to_string())));
    broker.kill()?;
    Ok(Some(violations))
}

/// New producers of the same ids: from here on the old ones must do nothing.
async fn take_over(address: &str) -> Result<()> {
    let client = connect(address, "successor", Duration::from_secs(10)).await?;
    for number in 0..PROCESSES {
        let id = Some(transactional_id(number));
        Producer::new(&client, ProducerConfig { transactional_id: id, ..ProducerConfig::default() }).await?;
    }
    Ok(())
}

/// A transaction that was open when its producer was stopped, and whose end had not been asked for, has failed by the
/// time others have its id: whoever is given its values is given what is aborted. One that was acknowledged after
/// that is a broken promise of its own.
fn judged(mut events: Vec<Event>, stopped: i64, fenced: i64) -> (Vec<Event>, Vec<String>, usize) {
    let known = |events: &[Event], process: &str, op: u64, kind: EventKind| {
        let mut same = events.iter().filter(|event| event.process == process && event.op == op);
        same.find(|event| event.kind == kind).cloned()
    };
    let open: Vec<Event> = events
        .iter()
        .filter(|event| event.kind == EventKind::Invoke && event.time < stopped && !event.steps.is_empty())
        .filter(|event| {
            let ending = known(&events, &event.process, event.op, EventKind::Ending);
            ending.is_none_or(|ending| ending.time > fenced)
        })
        .cloned()
        .collect();
    let mut broken = Vec::new();
    for zombie in &open {
        if known(&events, &zombie.process, zombie.op, EventKind::Ok).is_some() {
            broken.push(format!(
                "operation {} of {} was acknowledged after it was fenced",
                zombie.op, zombie.process
            ));
        }
        let same = events.iter_mut().filter(|event| event.process == zombie.process && event.op == zombie.op);
        for event in same.filter(|event| matches!(event.kind, EventKind::Ok | EventKind::Info)) {
            event.kind = EventKind::Fail;
        }
    }
    (events, broken, open.len())
}
