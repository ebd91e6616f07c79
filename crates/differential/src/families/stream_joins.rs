//! Joins of two streams within a window.
//!
//! Both come from one topic here, so that they have one stream time, as in Kafka Streams; see `lanes` for two.

use super::plan::Plan;
use crate::case::{At, Kind, Step, ValueFunction};
use crate::input::{Input, Topic};

/// One topic with the records of two streams; what follows a mark may be null.
pub const SHARED: Topic = Topic { marks: &["l", "r"], ..Topic::new("a").keyed() };

fn side(plan: &mut Plan<'_>, of: At, mark: &'static str) -> At {
    let marked = plan.add(Step::Marked { of, mark });
    plan.add(Step::MapValues { of: marked, function: ValueFunction::Strip })
}

/// The two streams of the topic that they share.
pub fn sides(plan: &mut Plan<'_>) -> (At, At) {
    let both = plan.stream("a");
    (side(plan, both, "l"), side(plan, both, "r"))
}

pub fn join(plan: &mut Plan<'_>, left: At, right: At, kind: Kind) -> At {
    let before = plan.draw.of(&[0, 5, 10, 20]);
    let after = if plan.draw.coin() { before } else { plan.draw.of(&[0, 5, 10, 20]) };
    let grace = plan.draw.of(&[0, 4, 12, 60]);
    plan.add(Step::JoinStreams { left, right, kind, before, after, grace })
}

pub fn stream_stream(plan: &mut Plan<'_>) {
    let (left, right) = sides(plan);
    let kind = plan.kind();
    let joined = join(plan, left, right, kind);
    plan.sink(joined);
    plan.input(&Input::of(&[SHARED]));
}

/// A stream with itself, each record with itself, too. In the order of time and with a grace: the ledger's model is of two streams.
pub fn self_join(plan: &mut Plan<'_>) {
    let stream = plan.stream("a");
    let (before, after) = (plan.draw.of(&[0, 5, 10, 20]), plan.draw.of(&[0, 5, 10, 20]));
    let grace = plan.draw.of(&[4, 12, 60]);
    let kind = Kind::Inner;
    let joined = plan.add(Step::JoinStreams { left: stream, right: stream, kind, before, after, grace });
    plan.sink(joined);
    plan.input(&Input::of(&[Topic::new("a").full()]));
    plan.with_even_times_in_order();
}
