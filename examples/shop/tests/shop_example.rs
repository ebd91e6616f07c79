//! The example on a real broker and a real PostgreSQL; it checks its own answer.

#[path = "../../../crates/external/tests/support/mod.rs"]
mod servers;

use std::net::{Ipv4Addr, SocketAddr};

use headwater_broker::{Broker, Config};
use headwater_stage::Options;
use servers::PostgresServer;

#[tokio::test(flavor = "multi_thread")]
async fn every_sale_is_in_its_row_once() {
    let Some(server) = PostgresServer::start() else { return };
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
    let told = headwater_shop::run(&options, &server.url()).await.unwrap();
    assert!(told.contains("3000 sales of 32 items"), "{told}");
    assert_eq!(server.sql("SELECT count(*) FROM headwater_stores"), ["0"]);
    if let Some(broker) = broker {
        broker.shutdown().await;
    }
}
