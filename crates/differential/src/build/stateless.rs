//! Sources, sinks and operators that keep nothing.

use headwater_streams::{Consumed, Predicate, Produced, Repartitioned};

use super::{Build, texts};
use crate::case::Step;
use crate::functions::{self, Text};

pub fn add(build: &mut Build, step: &Step) -> bool {
    match *step {
        Step::Stream { topic, extracts } => {
            let consumed = Consumed::with(texts(), texts());
            let consumed = if extracts {
                consumed.timestamp_extractor(|_, value: &Text, record| {
                    functions::time(value.as_deref(), record.timestamp)
                })
            } else {
                consumed
            };
            let stream = build.builder.stream(topic, consumed);
            build.streams(stream)
        }
        Step::StreamOfTopics { topics } => {
            let stream = build.builder.stream_of_topics(&topics, Consumed::with(texts(), texts()));
            build.streams(stream)
        }
        Step::Sink { of, ref topic } => {
            build.stream(of).to(topic, Produced::with(texts(), texts()));
            build.made(super::Handle::Nothing)
        }
        Step::Filter { of, modulus, rest } => build.streams(
            build.stream(of).filter(move |key, value| functions::keeps(modulus, rest, key, value.as_deref())),
        ),
        Step::FilterNot { of, modulus, rest } => build.streams(
            build
                .stream(of)
                .filter_not(move |key, value| functions::keeps(modulus, rest, key, value.as_deref())),
        ),
        Step::Marked { of, mark } => build.streams(
            build.stream(of).filter(move |_, value: &Text| functions::marked(mark, value.as_deref())),
        ),
        Step::Peek { of } => build.streams(build.stream(of).peek(|_, _| ())),
        Step::Timestamp { of } => {
            let time = |key: &Text, value: &Text| functions::moment(key, value.as_deref());
            build.streams(build.stream(of).with_timestamp(time))
        }
        Step::Merge { left, right } => build.streams(build.stream(left).merge(&build.stream(right))),
        Step::Repartition { of, partitions } => {
            let options = Repartitioned::with(texts(), texts()).named(build.name("r"));
            let options = match partitions {
                Some(partitions) => options.partitions(partitions),
                None => options,
            };
            build.streams(build.stream(of).repartition(options))
        }
        Step::Split { of, ref moduli, rest } => {
            let holds = |modulus: u32| -> Predicate<Text, Text> {
                Box::new(move |key, value| !functions::keeps(modulus, 0, key, value.as_deref()))
            };
            let predicates = moduli.iter().copied().map(holds).collect();
            let stream = build.stream(of);
            let branches = if rest { stream.split(predicates) } else { stream.branch(predicates) };
            branches.into_iter().fold(false, |_, branch| build.streams(branch))
        }
        _ => mapping(build, step),
    }
}

fn mapping(build: &mut Build, step: &Step) -> bool {
    match *step {
        Step::Map { of, key, function } => build.streams(build.stream(of).map(move |from, value: Text| {
            let mapped = functions::value(function, &from, value.as_deref());
            (functions::key(key, &from, value.as_deref()), mapped)
        })),
        Step::MapValues { of, function } => {
            build.streams(build.stream(of).map_values_with_key(move |key, value: Text| {
                functions::value(function, key, value.as_deref())
            }))
        }
        Step::FlatMap { of, least } => build.streams(
            build
                .stream(of)
                .flat_map(move |key, value: Text| functions::pairs(least, &key, value.as_deref())),
        ),
        Step::FlatMapValues { of, least } => {
            build.streams(build.stream(of).flat_map_values(move |value: Text| {
                functions::values(least, &None, value.as_deref()).into_iter().map(Some)
            }))
        }
        Step::SelectKey { of, key } => build.streams(
            build
                .stream(of)
                .select_key(move |from, value: &Text| functions::key(key, from, value.as_deref())),
        ),
        _ => false,
    }
}
