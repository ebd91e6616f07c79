//! What the sessions are, by sorting each user's interactions and cutting where nothing happens for too long.

use std::collections::BTreeMap;

use super::input::Happened;
use super::topology::{GAP, Session};

pub fn answer(happened: &[Happened]) -> Vec<(String, Session)> {
    let mut users: BTreeMap<&str, Vec<(i64, &str)>> = BTreeMap::new();
    for (user, interaction, at) in happened {
        users.entry(user).or_default().push((*at, &interaction.page));
    }
    let mut sessions = Vec::new();
    for (user, mut all) in users {
        all.sort_unstable();
        let gap = GAP.as_millis() as i64;
        for together in all.chunk_by(|(earlier, _), (later, _)| later - earlier <= gap) {
            sessions.push((user.to_owned(), session(together)));
        }
    }
    sessions.sort();
    sessions
}

fn session(interactions: &[(i64, &str)]) -> Session {
    let mut pages: BTreeMap<String, u64> = BTreeMap::new();
    for (_, page) in interactions {
        *pages.entry((*page).to_owned()).or_default() += 1;
    }
    Session {
        start: interactions[0].0,
        end: interactions[interactions.len() - 1].0,
        interactions: interactions.len() as u64,
        pages: pages.into_iter().collect(),
    }
}
