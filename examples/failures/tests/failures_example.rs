//! The example on a real broker; it checks its own answer.

use std::net::{Ipv4Addr, SocketAddr};

use headwater_broker::{Broker, Config};
use headwater_stage::Options;

#[tokio::test(flavor = "multi_thread")]
async fn accounts_with_pounds_wait_and_every_payment_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    let given = std::env::var("HEADWATER_TEST_BOOTSTRAP").ok();
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config =
        Config { data_dir: folder.path().to_owned(), listen, auto_create_topics: false, ..Config::default() };
    let broker = match given {
        Some(_) => None,
        None => Some(Broker::start(config).await.unwrap()),
    };
    let bootstrap_server = given.unwrap_or_else(|| broker.as_ref().unwrap().bootstrap());
    let options = Options {
        bootstrap_server,
        command_config: std::env::var_os("HEADWATER_TEST_COMMAND_CONFIG").map(Into::into),
        seed: 7,
        partitions: 3,
        replication_factor: -1,
        keep: false,
    };
    let told = headwater_failures::run(&options).await.unwrap();
    assert!(told.contains("accounts waited") && told.contains("once, in order"), "{told}");
    if let Some(broker) = broker {
        broker.shutdown().await;
    }
}
