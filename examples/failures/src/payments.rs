//! What is paid, and the balances that must come of it.

use std::collections::BTreeMap;

use headwater::streams::TimestampMs;
use headwater_stage::{Event, Row, topic};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// Into an account, which is its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    pub units: i64,
    pub currency: String,
}

/// What happens: the account, what is paid, and when.
pub type Paid = (String, Payment, TimestampMs);

/// The balances of each account after each of its payments.
pub type Balances = BTreeMap<String, Vec<i64>>;

/// What must come out.
pub struct Answer {
    pub balances: Balances,
    /// Without what comes after an account's first pounds.
    pub flowing: Balances,
}

pub(crate) fn cents(currency: &str) -> Option<i64> {
    match currency {
        "EUR" => Some(100),
        "USD" => Some(92),
        "GBP" => Some(118),
        _ => None,
    }
}

/// Into twenty accounts; one payment in thirty is in pounds.
pub fn draw(seed: u64, count: usize, begin: TimestampMs) -> Vec<Paid> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut paid = |place: usize| {
        let currency = match random.random_range(0..30) {
            0 => "GBP",
            1..10 => "USD",
            _ => "EUR",
        };
        let account = format!("account-{}", random.random_range(0..20));
        let payment = Payment { units: random.random_range(1..100), currency: currency.to_owned() };
        (account, payment, begin + place as i64 * 1_000)
    };
    (0..count).map(&mut paid).collect()
}

pub fn events(application_id: &str, paid: &[Paid]) -> Vec<Event> {
    let name = topic(application_id, "payments");
    paid.iter().map(|(account, payment, at)| Event::new(&name, account, payment, *at)).collect()
}

/// By a loop.
pub fn answer(paid: &[Paid]) -> Answer {
    let (mut balances, mut flowing) = (Balances::new(), Balances::new());
    let mut waits = std::collections::BTreeSet::new();
    for (account, payment, _) in paid {
        let all = balances.entry(account.clone()).or_default();
        let before = all.last().copied().unwrap_or(0);
        let after = before + payment.units * cents(&payment.currency).unwrap_or(0);
        all.push(after);
        if payment.currency == "GBP" {
            waits.insert(account.clone());
        }
        if !waits.contains(account) {
            flowing.entry(account.clone()).or_default().push(after);
        }
    }
    Answer { balances, flowing }
}

pub(crate) fn by_account(rows: &[Row<i64>]) -> Balances {
    let mut balances = Balances::new();
    for (account, balance, _) in rows {
        balances.entry(account.clone()).or_default().extend(*balance);
    }
    balances
}
