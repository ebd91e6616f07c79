//! Where an application begins to read what it has not read before.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use headwater_model::TopicPartition;
use headwater_runtime::{AppConfig, StreamsApp};
use headwater_streams::serdes::string;
use headwater_streams::{Consumed, OffsetReset, Produced, StreamsBuilder, Topology};

use crate::support::{self, Cluster, eventually, unique};

const HOUR: Duration = Duration::from_secs(3600);

struct Copies {
    cluster: Cluster,
    application_id: String,
}

impl Copies {
    async fn new(inputs: &[&str]) -> Self {
        let copies = Self { cluster: Cluster::start().await, application_id: unique("begins") };
        for input in inputs {
            copies.cluster.topic(&copies.topic(input), 1).await;
        }
        copies
    }

    fn topic(&self, name: &str) -> String {
        format!("{}-{name}", self.application_id)
    }

    /// Copies these topics to `out`.
    fn topology(&self, inputs: &[(&str, OffsetReset)]) -> Topology {
        let builder = StreamsBuilder::new(&self.application_id);
        for (input, reset) in inputs {
            builder
                .stream(&self.topic(input), Consumed::with(string(), string()).offset_reset(*reset))
                .to(&self.topic("out"), Produced::with(string(), string()));
        }
        builder.build().unwrap()
    }

    async fn start(&self, inputs: &[(&str, OffsetReset)], state: &Path) -> StreamsApp {
        let mut config = AppConfig::new(&self.cluster.bootstrap, &self.application_id);
        config.security = support::security();
        config.state_dir = state.to_owned();
        config.commit_interval = Duration::from_millis(50);
        StreamsApp::start(self.topology(inputs), config).await.unwrap()
    }

    async fn write(&self, input: &str, value: &str, time: i64) {
        self.cluster.produce(&self.topic(input), &[("k", value, time)]).await;
    }

    /// Until the output has these values, in any order.
    async fn check(&self, mut expected: Vec<&str>) {
        expected.sort_unstable();
        let mut last = Vec::new();
        eventually(&format!("{expected:?} came out"), async || {
            let read = self.cluster.read(&self.topic("out")).await.into_iter();
            last = read.map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap()).collect();
            last.sort_unstable();
            last.len() >= expected.len()
        })
        .await;
        assert_eq!(last, expected);
    }

    /// Until the application has committed where it is in this topic.
    async fn committed(&self, input: &str) {
        let at = [TopicPartition::new(self.topic(input), 0)];
        eventually("its position is committed", async || {
            let committed = self.cluster.client.committed(&self.application_id, Some(&at)).await.unwrap();
            committed.contains_key(&at[0])
        })
        .await;
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

#[tokio::test(flavor = "multi_thread")]
async fn each_topic_begins_with_its_first_record_its_end_or_what_is_young_enough() {
    let copies = Copies::new(&["all", "new", "young", "old"]).await;
    let state = tempfile::tempdir().unwrap();
    let (now, hour) = (now(), 3_600_000);
    for input in ["all", "new", "young", "old"] {
        copies.write(input, &format!("{input}-ancient"), now - 3 * hour).await;
    }
    copies.write("young", "young-fresh", now - hour / 2).await;
    let inputs = [
        ("all", OffsetReset::Earliest),
        ("new", OffsetReset::Latest),
        ("young", OffsetReset::NoOlderThan(HOUR)),
        ("old", OffsetReset::NoOlderThan(HOUR)),
    ];
    let app = copies.start(&inputs, state.path()).await;
    copies.check(vec!["all-ancient", "young-fresh"]).await;
    for input in ["new", "old"] {
        copies.committed(input).await;
        copies.write(input, &format!("{input}-later"), now).await;
    }
    copies.check(vec!["all-ancient", "young-fresh", "new-later", "old-later"]).await;
    app.stop().await.unwrap();
    copies.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_while_the_application_is_away_is_read_though_it_had_read_nothing_before() {
    let copies = Copies::new(&["new"]).await;
    let state = tempfile::tempdir().unwrap();
    copies.write("new", "before", 1).await;
    let inputs = [("new", OffsetReset::Latest)];
    let app = copies.start(&inputs, state.path()).await;
    copies.committed("new").await;
    app.stop().await.unwrap();
    copies.write("new", "meanwhile", 2).await;
    let app = copies.start(&inputs, state.path()).await;
    copies.check(vec!["meanwhile"]).await;
    app.stop().await.unwrap();
    copies.cluster.stop().await;
}
