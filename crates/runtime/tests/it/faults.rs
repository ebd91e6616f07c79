//! Death at every point of a commit, as if the process had been killed there: results stay those of the model. Failures that nobody
//! waits for, and tasks that fail more than once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use headwater_runtime::{AppConfig, AppError, FaultHook, FaultPoint, Phase, StreamsApp};
use headwater_streams::serdes::string;
use headwater_streams::{Consumed, Produced, StreamsBuilder};

use crate::support::{self, Cluster, WordCount, eventually, unique};

const POINTS: [FaultPoint; 5] = [
    FaultPoint::BeforeSend,
    FaultPoint::AfterSend,
    FaultPoint::BeforeCommit,
    FaultPoint::BeforeStores,
    FaultPoint::AfterStores,
];

#[tokio::test(flavor = "multi_thread")]
async fn dying_at_any_point_of_a_commit_changes_no_result() {
    let cluster = Cluster::start().await;
    let state = tempfile::tempdir().unwrap();
    let mut words = WordCount::new(&cluster, 2).await;
    for visit in 1..=2 {
        for point in POINTS {
            words.write(&cluster, 60).await;
            let visits = AtomicU32::new(0);
            let mut config = words.config(&cluster, state.path());
            config.fault = Some(FaultHook::new(move |at| {
                at == point && visits.fetch_add(1, Ordering::Relaxed) + 1 == visit
            }));
            let app = StreamsApp::start(words.topology(), config).await.unwrap();
            let error = app.wait().await.unwrap_err();
            assert!(matches!(error, AppError::Killed(at) if at == point), "{error}");
            app.stop().await.unwrap();
        }
    }
    let app = words.start(&cluster, state.path()).await;
    words.check(&cluster).await;
    words.check_store(&app).await;
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_has_failed_says_so_though_nobody_waits_for_its_end() {
    let cluster = Cluster::start().await;
    let state = tempfile::tempdir().unwrap();
    let mut words = WordCount::new(&cluster, 2).await;
    let mut config = words.config(&cluster, state.path());
    config.threads = 2;
    config.fault = Some(FaultHook::new(|at| at == FaultPoint::BeforeStores));
    let app = StreamsApp::start(words.topology(), config).await.unwrap();
    let mut phases = app.phases();
    assert_eq!(support::get(&app, "/health").await.0, 200);
    words.write(&cluster, 20).await;
    let stopped = tokio::time::timeout(support::PATIENCE, phases.wait_for(|phase| *phase == Phase::Stopped));
    assert!(stopped.await.is_ok(), "it is told that it has ended");
    assert_eq!((app.phase(), app.ready()), (Phase::Stopped, false));
    assert_eq!(support::get(&app, "/health").await.0, 503);
    assert!(app.wait().await.is_err());
    app.stop().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_fails_is_opened_again_as_often_as_was_said() {
    let cluster = Cluster::start().await;
    for (attempts, ends) in [(3, true), (usize::MAX, false)] {
        let (application_id, state) = (unique("tried"), tempfile::tempdir().unwrap());
        let (input, output) = (format!("{application_id}-in"), format!("{application_id}-out"));
        cluster.topic(&input, 1).await;
        cluster.produce(&input, &[("k", "v", 1)]).await;
        let builder = StreamsBuilder::new(&application_id);
        let (failures, counted) = (Arc::new(AtomicU32::new(0)), 5);
        let so_far = Arc::clone(&failures);
        builder
            .stream(&input, Consumed::with(string(), string()))
            .try_map_values(move |text: String| {
                if so_far.fetch_add(1, Ordering::Relaxed) < counted { Err("not yet") } else { Ok(text) }
            })
            .to(&output, Produced::with(string(), string()));
        let mut config = AppConfig::new(&cluster.bootstrap, &application_id);
        config.security = support::security();
        config.state_dir = state.path().to_owned();
        config.task_attempts = attempts;
        let app = StreamsApp::start(builder.build().unwrap(), config).await.unwrap();
        if ends {
            let error = app.wait().await.unwrap_err();
            assert!(matches!(error, AppError::Task { .. }), "{error}");
            assert_eq!(failures.load(Ordering::Relaxed), 3);
        } else {
            eventually("it is through", async || cluster.read(&output).await.len() == 1).await;
        }
        app.stop().await.unwrap();
    }
    cluster.stop().await;
}
