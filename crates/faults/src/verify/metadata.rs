//! Topics, configurations and committed positions: none is lost, none comes back, none goes back.

use super::{Check, Rule};
use crate::history::Progress;

impl Check<'_> {
    pub(super) fn topics(&mut self) {
        for (index, topic) in self.history.topics.iter().enumerate() {
            if self.history.topic_named(&topic.name) != Some(index) || self.allowed.lost_tail {
                continue;
            }
            let there = self.read.topics.get(&topic.name).copied();
            let detail = format!("{} (there: {there:?} partitions)", topic.name);
            if self.history.is_alive(index) && there != Some(topic.partitions) {
                self.report(Rule::TopicLost, format!("{detail}, created with {}", topic.partitions));
            }
            if topic.deleted == Progress::Acknowledged && there.is_some() {
                self.report(Rule::TopicBack, detail);
            }
        }
        let unknown = self.read.topics.keys().filter(|name| self.history.topic_named(name).is_none());
        let unknown: Vec<String> = unknown.cloned().collect();
        for name in unknown {
            self.report(Rule::NeverSent, format!("topic {name}, which nobody has created"));
        }
    }

    pub(super) fn configs(&mut self) {
        for (index, value) in &self.read.configs {
            let topic = &self.history.topics[*index];
            if !self.history.is_alive(*index) || self.allowed.lost_tail || topic.configs_acknowledged == 0 {
                continue;
            }
            let legal = &topic.configs[topic.configs_acknowledged - 1..];
            if !value.as_ref().is_some_and(|value| legal.contains(value)) {
                let detail = format!("{} is {value:?}, which should be one of {legal:?}", topic.name);
                self.report(Rule::Config, detail);
            }
        }
    }

    pub(super) fn positions(&mut self) {
        for ((group, place), position) in &self.history.committed {
            let Some(found) = self.read.committed.get(&(group.clone(), *place)) else { continue };
            // -1: none, which is where everybody begins.
            let found = (*found).max(0);
            if !self.history.is_alive(place.0) || self.allowed.lost_tail {
                continue;
            }
            if found < position.acknowledged || found > position.asked {
                let detail = format!(
                    "group {group} at {}: {found}, acknowledged {}, asked {}",
                    self.name(*place),
                    position.acknowledged,
                    position.asked
                );
                self.report(Rule::Position, detail);
            }
        }
    }
}
