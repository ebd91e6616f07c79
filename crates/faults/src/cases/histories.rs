//! Histories of many clients against a broker that is killed, paused and cut off, judged by `headwater-history`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use headwater_history::{Verdict, check};
use headwater_wire::ApiKey;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::fsync::noticed;
use crate::case::{Case, Extent, Need, Run};
use crate::clients::{
    Cast, Foreign, Language, Nemesis, Recorder, Stage, Trouble, create_topics, read_everything,
};
use crate::proxy::{Keys, Mischief, Proxy};
use crate::verify::Violation;

pub const OURS: Case = Case {
    name: "history-ours",
    promise: "P1 P2 P4",
    about: "our clients, kill -9, pauses, cut connections, lost answers: none of the twelve anomalies",
    needs: &[],
    quick: Extent { runs: 1, seconds: 10 },
    long: Extent { runs: 1000, seconds: 3600 },
    run: |run| play(run, &scene(run, Cast { ours: 8, ..cast(run) })),
};

pub const LIBRDKAFKA: Case = Case {
    name: "history-librdkafka",
    promise: "P1 P2 P4",
    about: "the same with librdkafka (confluent-kafka)",
    needs: &[Need::ConfluentKafka],
    quick: Extent { runs: 1, seconds: 10 },
    long: Extent { runs: 1000, seconds: 3600 },
    run: |run| play(run, &scene(run, Cast { foreign: vec![(Language::Python, 8)], ..cast(run) })),
};

pub const JAVA: Case = Case {
    name: "history-java",
    promise: "P1 P2 P4",
    about: "the same with Apache Kafka's Java clients (transactions of KIP-890)",
    needs: &[Need::JavaClients],
    quick: Extent { runs: 1, seconds: 10 },
    long: Extent { runs: 1000, seconds: 3600 },
    run: |run| play(run, &scene(run, Cast { foreign: vec![(Language::Java, 8)], ..cast(run) })),
};

pub const MIXED: Case = Case {
    name: "history-mixed",
    promise: "P1 P2 P4",
    about: "all three kinds of clients at once, up to 64 of them with --long",
    needs: &[Need::ConfluentKafka, Need::JavaClients],
    quick: Extent { runs: 1, seconds: 10 },
    long: Extent { runs: 1000, seconds: 3600 },
    run: |run| {
        let each = if run.context.long { [8, 12, 21][(run.seed % 3) as usize] } else { 4 };
        let foreign = vec![(Language::Python, each), (Language::Java, each)];
        play(run, &scene(run, Cast { ours: each, foreign, ..cast(run) }))
    },
};

const ALL_TROUBLES: [Trouble; 4] = [Trouble::Kill, Trouble::Pause, Trouble::Cut, Trouble::Nothing];
const PROGRAM_PATIENCE: Duration = Duration::from_secs(60);
const END_PATIENCE: Duration = Duration::from_secs(90);
/// A history with fewer acknowledged values is no evidence.
const LEAST_ACKNOWLEDGED: usize = 50;

/// A run of clients and what happens to them.
pub struct Scene {
    pub cast: Cast,
    pub troubles: Vec<Trouble>,
    pub mischief: Mischief,
    pub lasting: Duration,
    pub pause_ms: std::ops::Range<u64>,
    /// The mistake to be made by a broker that was built for it.
    pub planted: Option<&'static str>,
}

pub fn cast(run: &Run) -> Cast {
    Cast {
        ours: 0,
        foreign: Vec::new(),
        // Sometimes without transactions, mostly with.
        transactional: if run.context.long { (run.seed % 4) as u32 } else { 2 },
        request_timeout: Duration::from_secs(2),
        patience: Duration::from_millis(1500),
    }
}

/// Requests whose repetition must not do it again.
pub const WRITING: [ApiKey; 6] = [
    ApiKey::Produce,
    ApiKey::AddPartitionsToTxn,
    ApiKey::AddOffsetsToTxn,
    ApiKey::EndTxn,
    ApiKey::TxnOffsetCommit,
    ApiKey::InitProducerId,
];

/// Everything at once.
pub fn scene(run: &Run, cast: Cast) -> Scene {
    let long = run.context.long;
    Scene {
        cast,
        troubles: ALL_TROUBLES.to_vec(),
        mischief: Mischief {
            keys: Keys::of(&WRITING),
            cut_answer: 0.02,
            delay: 0.05,
            delay_ms: 1..300,
            ..Mischief::default()
        },
        lasting: Duration::from_secs(if long { 30 } else { 5 }),
        pause_ms: if long { 100..5000 } else { 100..1200 },
        planted: None,
    }
}

pub fn play(run: &Run, scene: &Scene) -> Result<Option<Vec<Violation>>> {
    let verdict = judged(run, scene)?;
    let mut violations: Vec<Violation> =
        verdict.anomalies.iter().map(|anomaly| noticed(anomaly.to_string())).collect();
    if verdict.counted.acknowledged < LEAST_ACKNOWLEDGED {
        violations.push(noticed(format!("only {} values were acknowledged", verdict.counted.acknowledged)));
    }
    Ok(Some(violations))
}

/// Plays a scene and judges its history.
pub fn judged(run: &Run, scene: &Scene) -> Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let proxy = runtime.block_on(Proxy::open(run.seed, None))?;
    let mut launch = run.launch(&run.data());
    launch.configs.extend(proxy.settings());
    if let Some(bug) = scene.planted {
        launch.environment.push(("HEADWATER_PLANTED_BUG".to_owned(), bug.to_owned()));
    }
    let broker = launch.serve()?;
    runtime.block_on(create_topics(&proxy.address, scene.cast.count()))?;
    let recorder = Recorder::create(&run.directory.join("ours.jsonl"))?;
    let stage = Stage::new(&proxy.address, run.seed, &run.directory);
    let programs = start_programs(&stage, &scene.cast)?;
    let ours = {
        let _inside = runtime.enter();
        stage.start_ours(&scene.cast, &recorder)
    };
    proxy.behave(scene.mischief.clone());
    let nemesis =
        Nemesis { launch: &launch, proxy: &proxy, pause_ms: scene.pause_ms.clone(), every_ms: 200..900 };
    let mut random = SmallRng::seed_from_u64(run.seed);
    let (broker, troubles) = nemesis.reign(broker, &scene.troubles, scene.lasting, &mut random)?;
    run.tally("troubles", troubles.len());
    proxy.behave(Mischief::default());
    stage.stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for program in programs {
        recorder.take_in(program.end()?);
    }
    runtime.block_on(async {
        for worker in ours {
            let ended = tokio::time::timeout(END_PATIENCE, worker).await;
            ended.context("one of our clients does not end")?.context("one of our clients panicked")?;
        }
        read_everything(&proxy.address, scene.cast.count(), &recorder).await
    })?;
    let verdict = check(&recorder.events())?;
    tell(run, &proxy, &verdict);
    broker.kill()?;
    Ok(verdict)
}

/// Starts the foreign programs and waits until they work.
fn start_programs(stage: &Stage, cast: &Cast) -> Result<Vec<Foreign>> {
    let mut programs = Vec::new();
    let mut first = cast.ours;
    for (language, count) in &cast.foreign {
        programs.push(Foreign::start(stage, *language, first, *count, cast)?);
        first += count;
    }
    let begun = Instant::now();
    while !programs.iter().all(Foreign::works) {
        if begun.elapsed() > PROGRAM_PATIENCE {
            bail!("a program of other clients does not begin; see {}", stage.directory.display());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(programs)
}

fn tell(run: &Run, proxy: &Proxy, verdict: &Verdict) {
    let counted = verdict.counted;
    run.tally("operations", counted.operations);
    run.tally("acknowledged values", counted.acknowledged);
    run.tally("unknown values", counted.unknown);
    run.tally("aborted values", counted.aborted);
    run.tally("polled values", counted.polled);
    let done = proxy.done();
    let count = |counter: &std::sync::atomic::AtomicUsize| counter.load(std::sync::atomic::Ordering::Relaxed);
    run.tally("answers cut", count(&done.answers_cut));
    run.tally("requests delayed", count(&done.delayed));
    run.tally("requests late or again", count(&done.late));
    run.tally("of those answered", count(&done.late_answered));
}
