//! Every query on a real broker: the embedded one, or the Apache Kafka at HEADWATER_TEST_BOOTSTRAP.

use std::net::{Ipv4Addr, SocketAddr};

use headwater_broker::{Broker, Config};
use headwater_nexmark::QUERIES;
use headwater_nexmark::events::draw;
use headwater_nexmark::reference::Reference;
use headwater_nexmark::run::{compare, on_cluster};
use headwater_stage::{Options, Stage};

const EVENTS: usize = 5_000;

#[tokio::test(flavor = "multi_thread")]
async fn every_query_answers_on_a_broker_as_sql_does() {
    let folder = tempfile::tempdir().unwrap();
    let (bootstrap, broker) = match std::env::var("HEADWATER_TEST_BOOTSTRAP") {
        Ok(bootstrap) => (bootstrap, None),
        Err(_) => {
            let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let data_dir = folder.path().to_owned();
            let config = Config { data_dir, listen, auto_create_topics: false, ..Config::default() };
            let broker = Broker::start(config).await.unwrap();
            (broker.bootstrap(), Some(broker))
        }
    };
    let options = Options {
        bootstrap_server: bootstrap,
        command_config: std::env::var_os("HEADWATER_TEST_COMMAND_CONFIG").map(Into::into),
        seed: 1,
        partitions: 3,
        replication_factor: -1,
        keep: false,
    };
    for query in QUERIES {
        let stage = Stage::open(&options, &format!("nexmark-{}", query.name)).await.unwrap();
        let happened = draw(options.seed, stage.begin(), EVENTS);
        let expected = Reference::of(&happened).unwrap().answer(query).unwrap();
        let ran = on_cluster(query, &happened, &stage, &expected).await.unwrap();
        compare(query, &ran.rows, &expected).unwrap();
        stage.close().await.unwrap();
    }
    if let Some(broker) = broker {
        broker.shutdown().await;
    }
}
