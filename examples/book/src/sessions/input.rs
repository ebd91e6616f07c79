//! A day on a site: users come, look around and go.

use headwater_stage::{Event, ends, topic};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::topology::{GAP, GRACE, Interaction};

const USERS: u32 = 30;
const INTERACTIONS: usize = 1_500;
const PAGES: [&str; 5] = ["home", "search", "item", "cart", "help"];
/// So many milliseconds at most does an interaction come behind one that happened later.
const DISORDER: i64 = 8 * 60_000;

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or_default()
}

/// A user, what was done, and when it happened.
pub type Happened = (String, Interaction, i64);

/// What happened, in the order in which it arrives: up to eight minutes out of order.
pub fn draw(seed: u64, begin: i64) -> Vec<Happened> {
    let mut random = SmallRng::seed_from_u64(seed);
    // Everyone comes at some time, pauses mostly for a minute or two and sometimes for an hour or so.
    let mut users: Vec<i64> = (0..USERS).map(|_| begin + random.random_range(0..millis(GAP))).collect();
    let mut arriving = Vec::new();
    while arriving.len() < INTERACTIONS {
        let user = random.random_range(0..users.len());
        let pause = match random.random_range(0..10) {
            0 => random.random_range(millis(GAP) - 60_000..2 * millis(GAP)),
            _ => random.random_range(1_000..180_000),
        };
        users[user] += pause;
        let page = PAGES[random.random_range(0..PAGES.len())].to_owned();
        let happened = (format!("user-{user:02}"), Interaction { page }, users[user]);
        arriving.push((users[user] + random.random_range(0..DISORDER), happened));
    }
    arriving.sort_by_key(|(at, _)| *at);
    arriving.into_iter().map(|(_, happened)| happened).collect()
}

pub fn events(application_id: &str, happened: &[Happened]) -> Vec<Event> {
    let topic = topic(application_id, "interactions");
    happened.iter().map(|(user, interaction, at)| Event::new(&topic, user, interaction, *at)).collect()
}

/// The time after which no session takes anything that has happened.
pub fn over(happened: &[Happened]) -> i64 {
    happened.iter().map(|(_, _, at)| *at).max().unwrap_or_default() + millis(GAP) + millis(GRACE) + 1
}

/// Tells every partition that the day is over.
pub fn end(application_id: &str, happened: &[Happened], partitions: i32) -> Vec<Event> {
    let end = Interaction { page: "end".to_owned() };
    ends(&topic(application_id, "interactions"), partitions, &end, over(happened))
}
