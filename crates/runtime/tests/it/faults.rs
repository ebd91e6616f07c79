//! Death at every point of a commit, as if the process had been killed there: results stay those of the model.

use std::sync::atomic::{AtomicU32, Ordering};

use headwater_runtime::{AppError, FaultHook, FaultPoint, StreamsApp};

use crate::support::{Cluster, WordCount};

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
