//! The functions of the topologies' operators; java/Functions.java has the same ones.

use crate::case::{KeyFunction, ValueFunction};

pub type Text = Option<String>;

const LONGEST: usize = 48;

pub fn hash(text: Option<&str>) -> u32 {
    let step = |hash: u32, byte: u8| hash.wrapping_mul(31).wrapping_add(u32::from(byte));
    let hash = text.unwrap_or_default().bytes().fold(7, step);
    hash ^ (hash >> 15)
}

fn mixed(key: Option<&str>, value: Option<&str>, modulus: u32) -> u32 {
    hash(key).wrapping_mul(17).wrapping_add(hash(value)) % modulus
}

pub fn text(value: Option<&str>) -> &str {
    value.unwrap_or("-")
}

/// Long texts are told by their hash, so that chains of aggregations stay small.
pub fn brief(text: String) -> String {
    if text.len() > LONGEST { format!("#{:08x}", hash(Some(&text))) } else { text }
}

pub fn keeps(modulus: u32, rest: u32, key: &Text, value: Option<&str>) -> bool {
    mixed(key.as_deref(), value, modulus) != rest
}

pub fn marked(mark: &str, value: Option<&str>) -> bool {
    value.and_then(|value| value.strip_prefix(mark)).is_some_and(|rest| rest.starts_with('|'))
}

pub fn value(function: ValueFunction, key: &Text, value: Option<&str>) -> Text {
    match function {
        ValueFunction::Mark => value.map(|value| brief(format!("{value}'"))),
        ValueFunction::Keyed => Some(brief(format!("{}:{}", text(key.as_deref()), text(value)))),
        ValueFunction::Sift => value.filter(|value| mixed(None, Some(value), 3) != 0).map(str::to_owned),
        ValueFunction::Strip => value.filter(|value| value.len() > 2).map(|value| value[2..].to_owned()),
    }
}

pub fn key(function: KeyFunction, key: &Text, value: Option<&str>) -> Text {
    match function {
        KeyFunction::Bucket => Some(format!("g{}", mixed(key.as_deref(), value, 3))),
        KeyFunction::Same => key.clone(),
        KeyFunction::Primed => key.as_ref().map(|key| format!("{key}'")),
        KeyFunction::Holes => match mixed(key.as_deref(), value, 4) {
            3 => None,
            place => Some(format!("k{place}")),
        },
    }
}

pub fn values(least: u32, key: &Text, value: Option<&str>) -> Vec<String> {
    let count = least + mixed(key.as_deref(), value, 3);
    (0..count).map(|place| brief(format!("{}.{place}", text(value)))).collect()
}

pub fn pairs(least: u32, key: &Text, value: Option<&str>) -> Vec<(Text, Text)> {
    let pair = |made: String| (Some(format!("k{}", mixed(key.as_deref(), Some(&made), 4))), Some(made));
    values(least, key, value).into_iter().map(pair).collect()
}

pub fn add(value: Option<&str>, sum: &str) -> String {
    brief(format!("{sum},{}", text(value)))
}

pub fn subtract(value: &str, sum: &str) -> String {
    brief(format!("{sum}~{value}"))
}

pub fn reduce(sum: &str, value: &str) -> String {
    brief(format!("{sum}+{value}"))
}

pub fn join(left: Option<&str>, right: Option<&str>) -> String {
    brief(format!("({}|{})", text(left), text(right)))
}

pub fn foreign(value: Option<&str>) -> Text {
    match (value, mixed(Some("f"), value, 5)) {
        (None, _) | (_, 4) => None,
        (_, place) => Some(format!("k{place}")),
    }
}

/// By key and value.
pub fn foreign_of(key: &Text, value: Option<&str>) -> Text {
    match (value, mixed(key.as_deref(), value, 5)) {
        (None, _) | (_, 4) => None,
        (_, place) => Some(format!("k{place}")),
    }
}

/// A time by key and value.
pub fn moment(key: &Text, value: Option<&str>) -> i64 {
    i64::from(mixed(key.as_deref(), value, 50))
}

/// A record's time by its value: before or after its own, and sometimes none.
pub fn time(value: Option<&str>, at: i64) -> i64 {
    match mixed(Some("t"), value, 9) {
        8 => -1,
        place => (at + (i64::from(place) - 3) * 4).max(0),
    }
}
