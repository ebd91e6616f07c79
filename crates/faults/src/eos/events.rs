//! What the records are, and what the topology's functions do with them: the part that service and oracle have in common.

/// A record of a stream or a row of a table: its id, unique among all inputs, and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub id: u64,
    pub n: i64,
}

impl Event {
    pub fn text(self) -> String {
        format!("{}:{}", self.id, self.n)
    }

    /// Bytes that are not ours count as an event that nobody sent.
    pub fn parse(text: &str) -> Self {
        let (id, n) = text.split_once(':').unwrap_or_default();
        Self { id: id.parse().unwrap_or(u64::MAX), n: n.parse().unwrap_or(i64::MIN) }
    }

    pub fn add(self, n: i64) -> Self {
        Self { n: self.n + n, ..self }
    }

    pub fn passes(self, modulo: u64) -> bool {
        // Not the lowest digits: those decide the key of what is written.
        (self.id / 7).is_multiple_of(modulo)
    }

    /// In any order the same result.
    pub fn reduce(self, other: Self) -> Self {
        Self { id: self.id ^ other.id, n: self.n + other.n }
    }
}

/// How many, their sum, and all ids folded into one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    pub count: i64,
    pub sum: i64,
    pub ids: u64,
}

impl Sum {
    pub fn text(self) -> String {
        format!("{},{},{}", self.count, self.sum, self.ids)
    }

    pub fn parse(text: &str) -> Self {
        let mut parts = text.split(',');
        let mut number = || parts.next().and_then(|part| part.parse().ok());
        let (count, sum) = (number().unwrap_or(i64::MIN), number().unwrap_or(i64::MIN));
        Self { count, sum, ids: parts.next().and_then(|part| part.parse().ok()).unwrap_or(0) }
    }

    pub fn plus(self, event: Event) -> Self {
        Self { count: self.count + 1, sum: self.sum + event.n, ids: self.ids ^ event.id }
    }

    pub fn minus(self, event: Event) -> Self {
        Self { count: self.count - 1, sum: self.sum - event.n, ids: self.ids ^ event.id }
    }
}

/// The row of a join; a side that is missing is `-`.
pub fn row(left: Option<&str>, right: Option<&str>) -> String {
    format!("{}/{}", left.unwrap_or("-"), right.unwrap_or("-"))
}

pub fn window(key: &str, start: i64) -> String {
    format!("{key}@{start}")
}

pub fn session(key: &str, start: i64, end: i64) -> String {
    format!("{key}@{start}-{end}")
}
