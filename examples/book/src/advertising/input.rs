//! A day of views and clicks, and advertisements that change meanwhile.

use headwater_stage::{Event, ends, topic};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::topology::{Advertisement, GAP, GRACE, Touch};

const USERS: usize = 25;
const TOUCHES: usize = 1_500;
const ADVERTISEMENTS: u32 = 12;
/// So many milliseconds at most does an event come behind one that happened later.
const DISORDER: i64 = 8 * 60_000;

/// What a user did, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    pub user: String,
    pub advertisement: String,
    pub click: bool,
    pub at: i64,
}

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or_default()
}

fn advertisement(number: u32) -> String {
    format!("advertisement-{number:02}")
}

/// What happened, in the order in which it arrives. Two views in three lead to a click, soon or in another session.
pub fn draw(seed: u64, begin: i64) -> Vec<Touched> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut users: Vec<i64> = (0..USERS).map(|_| begin + random.random_range(0..millis(GAP))).collect();
    let mut arriving = Vec::new();
    while arriving.len() < TOUCHES {
        let user = random.random_range(0..USERS);
        let pause = match random.random_range(0..10) {
            0 => random.random_range(millis(GAP) - 60_000..2 * millis(GAP)),
            _ => random.random_range(1_000..180_000),
        };
        users[user] += pause;
        let touched = Touched {
            user: format!("user-{user:02}"),
            advertisement: advertisement(random.random_range(0..ADVERTISEMENTS)),
            click: random.random_range(0..5) < 2,
            at: users[user],
        };
        arriving.push((touched.at + random.random_range(0..DISORDER), touched));
    }
    arriving.sort_by_key(|(at, _)| *at);
    arriving.into_iter().map(|(_, touched)| touched).collect()
}

/// Views and clicks, each for its topic.
pub fn events(application_id: &str, happened: &[Touched]) -> Vec<Event> {
    let event = |touched: &Touched| {
        let name = if touched.click { "clicks" } else { "views" };
        let touch = Touch { advertisement: touched.advertisement.clone() };
        Event::new(topic(application_id, name), &touched.user, &touch, touched.at)
    };
    happened.iter().map(event).collect()
}

/// The advertisements as they are first. The last one is missing: nobody pays for it.
pub fn advertisements(application_id: &str, seed: u64, begin: i64) -> Vec<Event> {
    let mut random = SmallRng::seed_from_u64(seed);
    let topic = topic(application_id, "advertisements");
    let entity = |number| {
        let advertiser = format!("advertiser-{}", number % 5);
        let entity = Advertisement { advertiser, cents: random.random_range(5..200) };
        Event::new(&topic, advertisement(number), &entity, begin)
    };
    (0..ADVERTISEMENTS - 1).map(entity).collect()
}

/// Then one gets dearer, and another is withdrawn.
pub fn changes(application_id: &str, at: i64) -> Vec<Event> {
    let topic = topic(application_id, "advertisements");
    let dearer = Advertisement { advertiser: "advertiser-0".to_owned(), cents: 500 };
    vec![Event::new(&topic, advertisement(0), &dearer, at), Event::tombstone(&topic, advertisement(1), at)]
}

/// Tells every partition that the day is over.
pub fn end(application_id: &str, happened: &[Touched], partitions: i32) -> Vec<Event> {
    let at =
        happened.iter().map(|touched| touched.at).max().unwrap_or_default() + millis(GAP) + millis(GRACE) + 1;
    let touch = Touch { advertisement: "end".to_owned() };
    let all = |name| ends(&topic(application_id, name), partitions, &touch, at);
    ["views", "clicks"].into_iter().flat_map(all).collect()
}
