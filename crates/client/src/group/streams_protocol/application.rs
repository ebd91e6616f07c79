//! What an application tells the broker of itself, and what it is told.

use headwater_model::TopicPartition;

/// A member of a streams group: one thread of one process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamsApplication {
    /// Names the member across restarts, so that who comes back after a crash has its tasks at once. Nobody else may use it;
    /// by default one that nobody has had.
    pub member_id: Option<String>,
    /// The same for all members that share the state of one process.
    pub process_id: String,
    /// Host and port at which the process answers questions (Kafka Streams' `application.server`).
    pub endpoint: Option<(String, u16)>,
    pub subtopologies: Vec<StreamsSubtopology>,
}

/// The topics of a subtopology.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamsSubtopology {
    pub id: i32,
    /// Topics of users that it reads.
    pub sources: Vec<String>,
    pub repartition_sinks: Vec<String>,
    pub repartition_sources: Vec<StreamsInternalTopic>,
    pub changelogs: Vec<StreamsInternalTopic>,
    /// Topics that it reads and that must have equally many partitions.
    pub copartitions: Vec<Vec<String>>,
}

/// A topic that the broker creates where it is missing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamsInternalTopic {
    pub name: String,
    /// 0 where the broker is to find out, as it does of all changelogs.
    pub partitions: i32,
    /// 0 or less for the broker's default.
    pub replication: i16,
    pub configs: Vec<(String, String)>,
}

/// A task by the number of its subtopology.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamsTask {
    pub subtopology: i32,
    pub partition: i32,
}

/// Tasks of one member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamsTasks {
    pub active: Vec<StreamsTask>,
    /// Those of which it keeps copies, warm-ups included.
    pub standby: Vec<StreamsTask>,
}

impl StreamsTasks {
    pub fn is_empty(&self) -> bool {
        self.active.is_empty() && self.standby.is_empty()
    }
}

/// What one process has, by what its tasks read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamsEndpoint {
    pub host: String,
    pub port: u16,
    pub active: Vec<TopicPartition>,
    pub standby: Vec<TopicPartition>,
}
