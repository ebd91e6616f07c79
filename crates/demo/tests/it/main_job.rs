//! The main job on the first week of the year, in one process.

use headwater_demo::legacy::Span;
use headwater_demo::{Lines, Options, Show, live};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_week_of_the_year_arrives_and_equals_the_oracle() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        data_dir: Some(dir.path().join("demo")),
        kill_every: None,
        bootstrap: None,
        security: headwater_client::Security::default(),
        command_config: None,
        span: Span::until("2013-01-08").unwrap(),
        executable: std::env::current_exe().unwrap(),
    };
    let (report, living) =
        live(&options, &Show::new(Lines::Stderr, false), std::future::pending()).await.unwrap();
    assert!(report.is_equal(), "{report}");
    assert!(report.events > 20_000, "{report}");
    assert!(report.verdict.answers.iter().all(|table| table.rows_compared > 100), "{report}");
    assert_eq!(report.json()["verdict"], "equal");
    living.stop().await.unwrap();
}
