//! What the levels must be: each movement once.

use std::collections::BTreeMap;

use super::input::Moved;
use super::topology::OPENING;

pub fn answer(happened: &[Moved]) -> BTreeMap<String, i64> {
    let mut levels = BTreeMap::new();
    for Moved { item, back, movement } in happened {
        let level = levels.entry(item.clone()).or_insert(OPENING);
        *level += if *back { movement.pieces } else { -movement.pieces };
    }
    levels
}
