//! A morning in a few shops.

use headwater_stage::{Event, topic};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::topology::{Movement, Variant};

const ITEMS: u32 = 40;
const TILLS: u32 = 6;
const MOVEMENTS: u64 = 4_000;

/// One movement and where it is told.
#[derive(Debug, Clone)]
pub struct Moved {
    pub item: String,
    pub back: bool,
    pub movement: Movement,
}

/// What happened, in order: one movement in five is a return.
pub fn draw(seed: u64, begin: i64) -> Vec<Moved> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut at = begin;
    let draw = |receipt| {
        at += random.random_range(100..3_000);
        let item = format!("item-{:02}", random.random_range(0..ITEMS));
        let (till, pieces) = (random.random_range(0..TILLS), random.random_range(1..6));
        let movement = Movement { till, receipt, line: random.random_range(1..4), at, pieces };
        Moved { item, back: random.random_range(0..5) == 0, movement }
    };
    (0..MOVEMENTS).map(draw).collect()
}

/// What the tills write. Without transactions they retry what they are not sure of: one event in ten comes twice.
pub fn events(application_id: &str, happened: &[Moved], variant: Variant) -> Vec<Event> {
    let mut events = Vec::new();
    let mut again: Vec<Event> = Vec::new();
    for (place, Moved { item, back, movement }) in happened.iter().enumerate() {
        let topic = topic(application_id, if *back { "returns" } else { "sales" });
        let event = Event::new(topic, item, movement, movement.at);
        if variant == Variant::Ids && place % 10 == 0 {
            again.push(event.clone());
        }
        events.push(event);
        if place % 37 == 0 {
            events.append(&mut again);
        }
    }
    events.extend(again);
    events
}
