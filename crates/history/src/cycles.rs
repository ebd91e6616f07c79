//! Transactions in a circle: of writes alone (G0), or of writes and reads (G1c).
//!
//! An edge leads from a transaction to one that wrote the next value of a key (ww), or that was given one of its
//! values (wr). Kafka does not keep transactions apart that write the same key, so ww edges count only where one
//! process writes; the others make cycles that are told as a number.

use std::collections::{BTreeMap, BTreeSet};

use crate::known::Known;
use crate::{Anomaly, Kind, Operation, Outcome, Step};

type Edges = BTreeMap<usize, BTreeSet<usize>>;

pub fn check(operations: &[Operation], known: &Known, interleaved: &mut usize) -> Vec<Anomaly> {
    let (own, shared) = written(operations, known);
    let mut found = Vec::new();
    for circle in circles(operations.len(), &own) {
        found.push(Anomaly::new(Kind::WriteCycle, names(operations, &circle)));
    }
    let mut all_writes = own.clone();
    merge(&mut all_writes, &shared);
    *interleaved += circles(operations.len(), &all_writes).len();
    let mut flow = own;
    merge(&mut flow, &read(operations, known));
    for circle in circles(operations.len(), &flow) {
        let is_known = found.iter().any(|anomaly| anomaly.what == names(operations, &circle));
        if !is_known {
            found.push(Anomaly::new(Kind::CircularInformationFlow, names(operations, &circle)));
        }
    }
    found
}

fn names(operations: &[Operation], circle: &[usize]) -> String {
    let names: Vec<String> = circle.iter().map(|place| operations[*place].name()).collect();
    names.join(", ")
}

fn merge(into: &mut Edges, more: &Edges) {
    for (from, to) in more {
        into.entry(*from).or_default().extend(to);
    }
}

/// Who wrote next, on keys of one writer and on keys of several.
fn written(operations: &[Operation], known: &Known) -> (Edges, Edges) {
    let (mut own, mut shared) = (Edges::new(), Edges::new());
    for of_key in known.keys.values() {
        let writers = of_key.committed.values().filter_map(|value| known.writers.get(value));
        let ended = writers.filter(|writer| operations[writer.operation].outcome != Outcome::Fail);
        let places: Vec<usize> = ended.map(|writer| writer.operation).collect();
        let edges = if of_key.has_one_writer() { &mut own } else { &mut shared };
        for pair in places.windows(2).filter(|pair| pair[0] != pair[1]) {
            edges.entry(pair[0]).or_default().insert(pair[1]);
        }
    }
    (own, shared)
}

/// Who was given whose values, among operations that took effect.
fn read(operations: &[Operation], known: &Known) -> Edges {
    let mut edges = Edges::new();
    let effective = operations.iter().enumerate().filter(|(_, reader)| reader.outcome == Outcome::Ok);
    for (place, reader) in effective {
        for step in &reader.steps {
            let Step::Poll { records, uncommitted: false, .. } = step else { continue };
            for (_, value) in records {
                let from = known.writers.get(value).map(|writer| writer.operation);
                // To read one's own unfinished writes is a circle of one.
                if let Some(from) = from.filter(|from| *from != place || reader.ending.is_some()) {
                    edges.entry(from).or_default().insert(place);
                }
            }
        }
    }
    edges
}

/// Strongly connected operations, by Tarjan's algorithm without recursion; one that leads to itself counts.
fn circles(count: usize, edges: &Edges) -> Vec<Vec<usize>> {
    let mut search = Search::new(count, edges);
    for place in edges.keys() {
        if search.index[*place].is_none() {
            search.visit(*place);
        }
    }
    search.found
}

struct Search<'a> {
    edges: &'a Edges,
    next: usize,
    index: Vec<Option<usize>>,
    low: Vec<usize>,
    stack: Vec<usize>,
    on_stack: BTreeSet<usize>,
    found: Vec<Vec<usize>>,
}

impl<'a> Search<'a> {
    fn new(count: usize, edges: &'a Edges) -> Self {
        Self {
            edges,
            next: 0,
            index: vec![None; count],
            low: vec![0; count],
            stack: Vec::new(),
            on_stack: BTreeSet::new(),
            found: Vec::new(),
        }
    }

    fn after(&self, place: usize) -> Vec<usize> {
        self.edges.get(&place).map(|to| to.iter().copied().collect()).unwrap_or_default()
    }

    fn enter(&mut self, place: usize) -> (usize, std::vec::IntoIter<usize>) {
        self.index[place] = Some(self.next);
        self.low[place] = self.next;
        self.next += 1;
        self.stack.push(place);
        self.on_stack.insert(place);
        (place, self.after(place).into_iter())
    }

    fn visit(&mut self, first: usize) {
        let mut path = vec![self.enter(first)];
        while let Some((place, rest)) = path.last_mut() {
            let place = *place;
            match rest.next() {
                Some(to) => match self.index[to] {
                    None => {
                        let entered = self.enter(to);
                        path.push(entered);
                    }
                    Some(index) if self.on_stack.contains(&to) => {
                        self.low[place] = self.low[place].min(index);
                    }
                    Some(_) => {}
                },
                None => {
                    path.pop();
                    if let Some((parent, _)) = path.last() {
                        self.low[*parent] = self.low[*parent].min(self.low[place]);
                    }
                    self.leave(place);
                }
            }
        }
    }

    fn leave(&mut self, place: usize) {
        if Some(self.low[place]) != self.index[place] {
            return;
        }
        let mut circle = Vec::new();
        while let Some(last) = self.stack.pop() {
            self.on_stack.remove(&last);
            circle.push(last);
            if last == place {
                break;
            }
        }
        let itself = self.edges.get(&place).is_some_and(|to| to.contains(&place));
        if circle.len() > 1 || itself {
            circle.sort_unstable();
            self.found.push(circle);
        }
    }
}
