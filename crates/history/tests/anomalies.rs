//! A small history for each anomaly, which must be found, and clean ones, which must pass.

use headwater_history::{Event, EventKind, Kind, Malformed, Step, Verdict, check, parse};

/// Builds a history; time goes on by one with each event.
#[derive(Default)]
struct History {
    events: Vec<Event>,
}

fn send(key: &str, value: u64, offset: i64) -> Step {
    Step::Send { key: key.to_owned(), value, offset: Some(offset) }
}

fn poll(key: &str, records: &[(i64, u64)]) -> Step {
    Step::Poll { key: key.to_owned(), records: records.to_vec(), uncommitted: false, last: false }
}

fn last(key: &str, records: &[(i64, u64)]) -> Step {
    Step::Poll { key: key.to_owned(), records: records.to_vec(), uncommitted: false, last: true }
}

impl History {
    fn event(&mut self, process: &str, op: u64, kind: EventKind, steps: Vec<Step>) {
        let time = self.events.len() as i64;
        self.events.push(Event { process: process.to_owned(), op, time, kind, steps });
    }

    fn begin(&mut self, process: &str, steps: &[Step]) -> u64 {
        let op = self.events.len() as u64;
        let intent = steps.iter().filter_map(|step| match step {
            Step::Send { key, value, .. } => {
                Some(Step::Send { key: key.clone(), value: *value, offset: None })
            }
            _ => None,
        });
        self.event(process, op, EventKind::Invoke, intent.collect());
        op
    }

    /// Not a transaction.
    fn plain(mut self, process: &str, kind: EventKind, steps: Vec<Step>) -> Self {
        let op = self.begin(process, &steps);
        self.event(process, op, kind, steps);
        self
    }

    fn ok(self, process: &str, steps: Vec<Step>) -> Self {
        self.plain(process, EventKind::Ok, steps)
    }

    fn transaction(mut self, process: &str, kind: EventKind, steps: Vec<Step>) -> Self {
        let op = self.begin(process, &steps);
        self.event(process, op, EventKind::Ending, Vec::new());
        self.event(process, op, kind, steps);
        self
    }

    fn judged(&self) -> Verdict {
        // What is written is what is read.
        let lines: String = self
            .events
            .iter()
            .map(|event| serde_json::to_string(event).expect("an event is JSON") + "\n")
            .collect();
        let events = parse(&lines).expect("its own lines");
        assert_eq!(events, self.events);
        check(&events).expect("a whole history")
    }

    #[track_caller]
    fn finds(&self, kinds: &[Kind]) {
        let found: Vec<Kind> = self.judged().anomalies.iter().map(|anomaly| anomaly.kind).collect();
        assert_eq!(found, kinds, "{:#?}", self.judged().anomalies);
    }
}

/// Two writers, a reader, one transaction aborted, one unknown, and everything read in the end.
fn clean() -> History {
    History::default()
        .ok("a", vec![send("t/0", 1, 0), send("t/0", 2, 1), send("t/1", 3, 0)])
        .transaction("b", EventKind::Ok, vec![send("t/0", 4, 2), send("t/1", 5, 1)])
        .transaction("b", EventKind::Fail, vec![send("t/0", 6, 4)])
        .transaction("a", EventKind::Info, vec![send("t/0", 7, 6)])
        .ok("r", vec![poll("t/0", &[(0, 1), (1, 2)]), poll("t/1", &[(0, 3)])])
        .ok("r", vec![poll("t/0", &[(2, 4)]), poll("t/1", &[(1, 5)])])
        .ok("final", vec![last("t/0", &[(0, 1), (1, 2), (2, 4), (6, 7)]), last("t/1", &[(0, 3), (1, 5)])])
}

#[test]
fn a_clean_history_passes() {
    clean().finds(&[]);
    let counted = clean().judged().counted;
    assert_eq!((counted.operations, counted.acknowledged, counted.unknown, counted.aborted), (7, 5, 1, 1));
    assert_eq!(counted.polled, 6);
}

#[test]
fn an_unknown_write_may_be_there_or_not() {
    History::default()
        .plain("a", EventKind::Info, vec![Step::Send { key: "t/0".into(), value: 1, offset: None }])
        .plain("a", EventKind::Info, vec![Step::Send { key: "t/0".into(), value: 2, offset: None }])
        .ok("final", vec![last("t/0", &[(0, 2)])])
        .finds(&[]);
}

#[test]
fn an_operation_without_an_end_is_unknown() {
    let mut history = History::default();
    history.begin("a", &[send("t/0", 1, 0)]);
    history.ok("final", vec![last("t/0", &[(0, 1)])]).finds(&[]);
}

#[test]
fn markers_and_aborted_values_are_no_gaps() {
    History::default()
        .transaction("a", EventKind::Ok, vec![send("t/0", 1, 0)])
        .transaction("a", EventKind::Fail, vec![send("t/0", 2, 2)])
        .transaction("a", EventKind::Ok, vec![send("t/0", 3, 4)])
        .ok("final", vec![last("t/0", &[(0, 1), (4, 3)])])
        .finds(&[]);
}

#[test]
fn transactions_of_several_processes_may_interleave() {
    let history = History::default()
        .transaction("a", EventKind::Ok, vec![send("t/0", 1, 0), send("t/0", 2, 2)])
        .transaction("b", EventKind::Ok, vec![send("t/0", 3, 1)])
        .ok("final", vec![last("t/0", &[(0, 1), (1, 3), (2, 2)])]);
    history.finds(&[]);
    assert_eq!(history.judged().counted.interleaved, 2, "a gap and a circle, neither of them wrong");
}

#[test]
fn a_reader_that_chose_its_position_anew_may_read_again() {
    History::default()
        .ok("a", vec![send("t/0", 1, 0), send("t/0", 2, 1)])
        .ok("r", vec![poll("t/0", &[(0, 1), (1, 2)])])
        .ok("r", vec![Step::Assign {}, poll("t/0", &[(0, 1), (1, 2)])])
        .finds(&[]);
}

#[test]
fn an_uncommitted_reader_may_see_what_is_aborted() {
    let step = Step::Poll { key: "t/0".into(), records: vec![(0, 1)], uncommitted: true, last: false };
    History::default()
        .transaction("a", EventKind::Fail, vec![send("t/0", 1, 0)])
        .ok("r", vec![step])
        .finds(&[]);
}

#[test]
fn an_aborted_read() {
    History::default()
        .transaction("a", EventKind::Fail, vec![send("t/0", 1, 0)])
        .ok("r", vec![poll("t/0", &[(0, 1)])])
        .finds(&[Kind::AbortedRead]);
}

#[test]
fn a_value_of_nobody_and_one_of_another_key() {
    History::default()
        .ok("a", vec![send("t/1", 2, 0)])
        .ok("r", vec![poll("t/0", &[(0, 1), (1, 2)])])
        .finds(&[Kind::AbortedRead, Kind::AbortedRead]);
}

#[test]
fn two_values_at_one_offset() {
    History::default()
        .ok("a", vec![send("t/0", 1, 0)])
        .ok("b", vec![send("t/0", 2, 0)])
        .finds(&[Kind::TwoValuesAtOneOffset]);
}

#[test]
fn a_lost_write_that_readers_came_past() {
    History::default()
        .ok("a", vec![send("t/0", 1, 0), send("t/0", 2, 1)])
        .ok("r", vec![poll("t/0", &[(1, 2)])])
        .finds(&[Kind::LostWrite]);
}

#[test]
fn a_lost_write_that_was_read_before() {
    History::default()
        .ok("a", vec![send("t/0", 1, 0)])
        .ok("r", vec![poll("t/0", &[(0, 1)])])
        .ok("final", vec![last("t/0", &[])])
        .finds(&[Kind::LostWrite]);
    History::default()
        .plain("a", EventKind::Info, vec![send("t/0", 1, 0)])
        .ok("r", vec![poll("t/0", &[(0, 1)])])
        .ok("final", vec![last("t/0", &[])])
        .finds(&[Kind::LostWrite]);
}

#[test]
fn a_duplicate() {
    History::default()
        .ok("a", vec![send("t/0", 1, 0)])
        .ok("final", vec![last("t/0", &[(0, 1), (1, 1)])])
        .finds(&[Kind::Duplicate]);
}

#[test]
fn an_unseen_write() {
    History::default()
        .ok("a", vec![send("t/0", 1, 0), send("t/0", 2, 1)])
        .ok("final", vec![last("t/0", &[(0, 1)])])
        .finds(&[Kind::Unseen]);
}

#[test]
fn a_gap_within_a_poll_and_between_two() {
    let written =
        || History::default().ok("a", vec![send("t/0", 1, 0), send("t/0", 2, 1), send("t/0", 3, 2)]);
    let all = || vec![last("t/0", &[(0, 1), (1, 2), (2, 3)])];
    written().ok("r", vec![poll("t/0", &[(0, 1), (2, 3)])]).ok("final", all()).finds(&[Kind::GapInPoll]);
    written()
        .ok("r", vec![poll("t/0", &[(0, 1)])])
        .ok("r", vec![poll("t/0", &[(2, 3)])])
        .ok("final", all())
        .finds(&[Kind::GapInPoll]);
}

#[test]
fn an_inversion_within_a_poll_and_between_two() {
    let written = || History::default().ok("a", vec![send("t/0", 1, 0), send("t/0", 2, 1)]);
    written().ok("r", vec![poll("t/0", &[(1, 2), (0, 1)])]).finds(&[Kind::InversionInPoll]);
    written()
        .ok("r", vec![poll("t/0", &[(0, 1), (1, 2)])])
        .ok("r", vec![poll("t/0", &[(1, 2)])])
        .finds(&[Kind::InversionInPoll]);
}

#[test]
fn a_gap_within_a_send() {
    // One process, whose second operation got between the values of the first.
    History::default()
        .ok("a", vec![send("t/0", 1, 0), send("t/0", 2, 2)])
        .ok("a", vec![send("t/0", 3, 1)])
        .finds(&[Kind::GapInSend, Kind::InversionInSend, Kind::WriteCycle]);
}

#[test]
fn an_inversion_within_a_send_and_between_two() {
    History::default().ok("a", vec![send("t/0", 1, 1), send("t/0", 2, 0)]).finds(&[Kind::InversionInSend]);
    History::default()
        .ok("a", vec![send("t/0", 1, 1)])
        .ok("a", vec![send("t/0", 2, 0)])
        .finds(&[Kind::InversionInSend]);
}

#[test]
fn a_write_cycle() {
    // Of two operations, one is first in one key and second in the other.
    History::default()
        .transaction("a", EventKind::Ok, vec![send("t/0", 1, 0), send("t/1", 2, 1)])
        .transaction("a", EventKind::Info, vec![send("t/0", 3, 1), send("t/1", 4, 0)])
        .ok("final", vec![last("t/0", &[(0, 1), (1, 3)]), last("t/1", &[(0, 4), (1, 2)])])
        .finds(&[Kind::InversionInSend, Kind::WriteCycle]);
}

#[test]
fn circular_information_flow() {
    let mut history = History::default();
    let (first, second) =
        (vec![send("t/0", 1, 0), poll("t/1", &[(0, 2)])], vec![send("t/1", 2, 0), poll("t/0", &[(0, 1)])]);
    let (a, b) = (history.begin("a", &first), history.begin("b", &second));
    history.event("a", a, EventKind::Ending, Vec::new());
    history.event("b", b, EventKind::Ending, Vec::new());
    history.event("a", a, EventKind::Ok, first);
    history.event("b", b, EventKind::Ok, second);
    history.finds(&[Kind::CircularInformationFlow]);
}

#[test]
fn a_transaction_that_read_itself() {
    History::default()
        .transaction("a", EventKind::Ok, vec![send("t/0", 1, 0), poll("t/0", &[(0, 1)])])
        .finds(&[Kind::CircularInformationFlow]);
}

#[test]
fn an_intermediate_read() {
    let mut history = History::default();
    let steps = vec![send("t/0", 1, 0), send("t/1", 2, 0)];
    let op = history.begin("a", &steps);
    let mut history = history.ok("r", vec![poll("t/0", &[(0, 1)])]);
    history.event("a", op, EventKind::Ending, Vec::new());
    history.event("a", op, EventKind::Ok, steps);
    history.finds(&[Kind::IntermediateRead]);
}

fn position(offset: i64) -> Step {
    Step::Position { group: "g".to_owned(), key: "t/0".to_owned(), offset }
}

fn found(offset: Option<i64>) -> Step {
    Step::Found { group: "g".to_owned(), key: "t/0".to_owned(), offset }
}

#[test]
fn a_position_may_be_that_of_an_unknown_end() {
    let history = || {
        History::default()
            .transaction("a", EventKind::Ok, vec![position(1)])
            .transaction("a", EventKind::Fail, vec![position(2)])
            .transaction("a", EventKind::Info, vec![position(3)])
    };
    history().ok("final", vec![found(Some(1))]).finds(&[]);
    history().ok("final", vec![found(Some(3))]).finds(&[]);
    History::default().ok("final", vec![found(None)]).finds(&[]);
}

#[test]
fn a_position_of_an_aborted_transaction_an_older_one_and_none() {
    let history = || {
        History::default()
            .transaction("a", EventKind::Ok, vec![position(1)])
            .transaction("a", EventKind::Ok, vec![position(2)])
            .transaction("a", EventKind::Fail, vec![position(3)])
    };
    history().ok("final", vec![found(Some(3))]).finds(&[Kind::WrongPosition]);
    history().ok("final", vec![found(Some(1))]).finds(&[Kind::WrongPosition]);
    history().ok("final", vec![found(None)]).finds(&[Kind::WrongPosition]);
}

#[test]
fn every_kind_has_its_history() {
    let text = include_str!("anomalies.rs");
    for kind in Kind::ALL {
        let tested =
            text.lines().any(|line| line.contains(".finds(") && line.contains(&format!("Kind::{kind:?}")));
        assert!(tested, "{kind:?}");
    }
}

#[test]
fn what_is_not_a_history_is_refused() {
    let whole = serde_json::to_string(&clean().events[0]).expect("JSON");
    assert!(matches!(parse("{\"process\":1}\n"), Err(Malformed::Line { line: 1, .. })));
    let cut = format!("{whole}\n{}", &whole[..20]);
    assert_eq!(parse(&cut).expect("a client was killed while it wrote").len(), 1);
    let mut twice = clean();
    twice = twice.ok("z", vec![send("t/0", 1, 99)]);
    assert!(matches!(check(&twice.events), Err(Malformed::Repeated { value: 1, .. })));
    let mut headless = clean();
    headless.event("z", 1, EventKind::Ok, Vec::new());
    assert!(matches!(check(&headless.events), Err(Malformed::Operation { .. })));
}
