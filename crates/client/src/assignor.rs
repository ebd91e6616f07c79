//! Who reads what: assignors are pure, and run in the member that leads the group.

use std::collections::BTreeMap;
use std::future::{Future, ready};
use std::pin::Pin;

use bytes::Bytes;
use headwater_model::TopicPartition;

/// What one member said when it joined.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemberSubscription {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub topics: Vec<String>,
    /// What it was assigned in the generation before.
    pub owned: Vec<TopicPartition>,
    pub user_data: Option<Bytes>,
}

/// What one member is given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Assignment {
    pub partitions: Vec<TopicPartition>,
    pub user_data: Option<Bytes>,
}

pub trait Assignor: Send + Sync {
    /// The protocol's name; members of one group must share one.
    fn name(&self) -> &str;

    /// What this member tells the leader; asked at each join.
    fn user_data(&self) -> Option<Bytes> {
        None
    }

    /// Whether the group is to rebalance when there are more topics or partitions than the member that leads has assigned.
    fn follows_topics(&self) -> bool {
        true
    }

    /// Looks up, in the member that leads, what the decision needs beside what the members said; then `assign` follows.
    fn prepare(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(ready(()))
    }

    /// Decides for all members, by their ids; `partitions` counts those of each subscribed topic that
    /// exists.
    fn assign(
        &self,
        partitions: &BTreeMap<String, i32>,
        members: &[MemberSubscription],
    ) -> BTreeMap<String, Assignment>;
}

/// Kafka's `range`: each topic is cut into runs of partitions, so that topics with equally many
/// partitions are co-partitioned.
#[derive(Debug, Clone, Copy, Default)]
pub struct RangeAssignor;

impl Assignor for RangeAssignor {
    fn name(&self) -> &str {
        "range"
    }

    fn assign(
        &self,
        partitions: &BTreeMap<String, i32>,
        members: &[MemberSubscription],
    ) -> BTreeMap<String, Assignment> {
        let mut assigned: BTreeMap<String, Assignment> =
            members.iter().map(|member| (member.member_id.clone(), Assignment::default())).collect();
        for (topic, &count) in partitions {
            let mut subscribed: Vec<&MemberSubscription> =
                members.iter().filter(|member| member.topics.contains(topic)).collect();
            subscribed.sort_by_key(|member| order(member));
            let (Ok(count), readers) = (usize::try_from(count), subscribed.len()) else { continue };
            let mut next = 0;
            for (place, member) in subscribed.into_iter().enumerate() {
                let share = count / readers + usize::from(place < count % readers);
                if let Some(given) = assigned.get_mut(&member.member_id) {
                    let run = next..next + share;
                    given
                        .partitions
                        .extend(run.map(|index| TopicPartition::new(topic.as_str(), index as i32)));
                }
                next += share;
            }
        }
        assigned
    }
}

/// Static members come first, by their instance ids: member ids change when they restart.
fn order(member: &MemberSubscription) -> (bool, &str) {
    match &member.instance_id {
        Some(instance) => (false, instance),
        None => (true, &member.member_id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, topics: &[&str]) -> MemberSubscription {
        let topics = topics.iter().map(ToString::to_string).collect();
        MemberSubscription { member_id: id.into(), topics, ..MemberSubscription::default() }
    }

    fn assigned(partitions: &[(&str, i32)], members: &[MemberSubscription]) -> Vec<String> {
        let partitions = partitions.iter().map(|(topic, count)| (topic.to_string(), *count)).collect();
        let lines = RangeAssignor.assign(&partitions, members).into_iter().map(|(id, given)| {
            let list: Vec<_> = given.partitions.iter().map(ToString::to_string).collect();
            format!("{id}: {}", list.join(" "))
        });
        lines.collect()
    }

    #[test]
    fn range_cuts_each_topic_into_runs_and_gives_the_rest_to_the_first() {
        let members = [member("b", &["t", "u"]), member("a", &["t", "u"])];
        assert_eq!(assigned(&[("t", 3), ("u", 2)], &members), ["a: t/0 t/1 u/0", "b: t/2 u/1"]);
    }

    #[test]
    fn range_gives_a_topic_only_to_those_who_subscribed() {
        let members = [member("a", &["t"]), member("b", &["t", "u"]), member("c", &[])];
        assert_eq!(assigned(&[("t", 1), ("u", 1)], &members), ["a: t/0", "b: u/0", "c: "]);
    }

    #[test]
    fn range_orders_static_members_by_their_instance() {
        let mut first = member("zzz", &["t"]);
        first.instance_id = Some("1".into());
        let mut second = member("aaa", &["t"]);
        second.instance_id = Some("2".into());
        assert_eq!(assigned(&[("t", 2)], &[second, first]), ["aaa: t/1", "zzz: t/0"]);
    }
}
