//! A few minutes in a bank with two producers: what they write, and in which order it comes.

use headwater_stage::{Event, ends, topic};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::topology::{GRACE, Posting, STRETCH};

const ACCOUNTS: usize = 24;
const POSTINGS: u64 = 600;
/// Deposits come through a slower producer, by up to so many milliseconds.
const SLOWER: i64 = 20_000;

/// What happened, in order: accounts and their postings.
#[derive(Debug, Clone)]
pub struct Happened {
    postings: Vec<(String, Posting)>,
    random: SmallRng,
}

impl Happened {
    /// Each account gets a deposit, then most of it is withdrawn, and so on; one withdrawal in twelve is more than there is.
    pub fn draw(seed: u64, begin: i64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut balances = [0i64; ACCOUNTS];
        let mut at = begin;
        let mut postings = Vec::new();
        for id in 0..POSTINGS {
            at += random.random_range(50..600);
            let account = random.random_range(0..ACCOUNTS);
            let balance = &mut balances[account];
            let cents = if *balance <= 2_000 {
                random.random_range(10_000..80_000)
            } else if random.random_range(0..12) == 0 {
                -*balance - random.random_range(100..5_000)
            } else {
                -*balance * random.random_range(80..=100) / 100
            };
            *balance += cents;
            postings.push((format!("account-{account:02}"), Posting { id, at, cents }));
        }
        Self { postings, random }
    }

    pub fn postings(&self) -> &[(String, Posting)] {
        &self.postings
    }

    pub fn end(&self) -> i64 {
        self.postings.last().map_or(0, |(_, posting)| posting.at)
    }

    /// Both producers write to one topic, `postings`: withdrawals when they happen, deposits later.
    pub fn in_one_topic(&self, application_id: &str) -> Vec<Event> {
        let mut random = self.random.clone();
        let mut arriving: Vec<(i64, &(String, Posting))> = Vec::new();
        for posting in &self.postings {
            let slower = if posting.1.cents > 0 { random.random_range(0..SLOWER) } else { 0 };
            arriving.push((posting.1.at + slower, posting));
        }
        arriving.sort_by_key(|(at, (_, posting))| (*at, posting.id));
        let topic = topic(application_id, "postings");
        arriving.into_iter().map(|(_, (account, posting))| event(&topic, account, posting)).collect()
    }

    /// Each producer writes to a topic of its own, in order.
    pub fn deposits(&self, application_id: &str) -> Vec<Event> {
        self.of(&topic(application_id, "deposits"), |cents| cents > 0)
    }

    pub fn withdrawals(&self, application_id: &str) -> Vec<Event> {
        self.of(&topic(application_id, "withdrawals"), |cents| cents < 0)
    }

    fn of(&self, topic: &str, chosen: impl Fn(i64) -> bool) -> Vec<Event> {
        let chosen = self.postings.iter().filter(|(_, posting)| chosen(posting.cents));
        chosen.map(|(account, posting)| event(topic, account, posting)).collect()
    }

    /// Tells every partition of a topic that time has gone on for so long that nothing is waited for.
    pub fn ends(&self, application_id: &str, name: &str, partitions: i32) -> Vec<Event> {
        let after = STRETCH + GRACE + GRACE;
        let at = self.end() + i64::try_from(after.as_millis()).unwrap_or_default();
        ends(&topic(application_id, name), partitions, &Posting { id: POSTINGS, at, cents: 0 }, at)
    }
}

fn event(topic: &str, account: &str, posting: &Posting) -> Event {
    Event::new(topic, account, posting, posting.at)
}
