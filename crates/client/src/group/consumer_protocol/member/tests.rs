use super::*;

const A: TopicId = [1; 16];
const B: TopicId = [2; 16];
const INTERVAL: Duration = Duration::from_secs(5);

/// A member whose clock is turned by hand, and whose jitter is none.
struct Bench {
    member: Member,
    now: Duration,
}

impl Bench {
    fn new() -> Self {
        Self { member: Member::new(Duration::ZERO), now: Duration::ZERO }
    }

    /// In the group at epoch 1, the caller working on these of topic A.
    fn with(partitions: &[i32]) -> Self {
        let mut bench = Self::new();
        bench.expect_beat(JOIN, true, Some(&[]));
        bench.answer(1, Some(&of(A, partitions)));
        bench.settle(&of(A, partitions));
        bench
    }

    fn next(&mut self) -> Option<Act> {
        self.member.next(self.now)
    }

    fn expect_beat(&mut self, epoch: i32, full: bool, owned: Option<&[Place]>) {
        let owned = owned.map(|owned| owned.iter().copied().collect());
        assert_eq!(self.next(), Some(Act::Beat(Beat { epoch, full, owned })));
        assert_eq!(self.next(), None, "one thing at a time");
    }

    fn answer(&mut self, epoch: i32, assignment: Option<&[Place]>) {
        let assignment = assignment.map(|places| places.iter().copied().collect());
        self.member.answered(Answer { epoch, interval: INTERVAL, assignment }, self.now);
    }

    fn fail(&mut self, code: ErrorCode) -> bool {
        let error = ClientError::kafka("heartbeat", code.code(), None);
        self.member.failed(&error, self.now, 1.0)
    }

    /// Names, positions and the claim of what is new; returns what the caller has then.
    fn settle(&mut self, all: &[Place]) {
        let mut handed = None;
        while let Some(act) = self.next() {
            match act {
                Act::Look(ids) => {
                    let names = ids.into_iter().map(|id| (id, format!("topic-{}", id[0]))).collect();
                    self.member.resolved(names, self.now, 1.0);
                }
                Act::Take { round, .. } => handed = self.member.taken(round, self.now),
                Act::Beat(_) => self.answer(self.member.epoch, None),
                Act::Revoke { .. } => panic!("nothing was to go"),
            }
        }
        assert_eq!(handed.expect("something was handed out").all, all.iter().copied().collect());
    }

    fn wait(&mut self) {
        self.now = self.member.wake_at().expect("it has something to wait for");
    }
}

fn of(topic: TopicId, partitions: &[i32]) -> Vec<Place> {
    partitions.iter().map(|partition| (topic, *partition)).collect()
}

fn set(places: &[Place]) -> Places {
    places.iter().copied().collect()
}

#[test]
fn who_joins_says_everything_and_afterwards_only_what_changed() {
    let mut bench = Bench::with(&[0, 1]);
    assert_eq!(bench.member.wake_at(), Some(INTERVAL));
    bench.wait();
    bench.expect_beat(1, false, None);
    bench.answer(1, None);
    assert_eq!(bench.member.wake_at(), Some(INTERVAL * 2));
}

#[test]
fn what_is_new_is_claimed_while_its_positions_are_looked_up() {
    let mut bench = Bench::with(&[0]);
    bench.wait();
    bench.expect_beat(1, false, None);
    bench.answer(2, Some(&of(A, &[0, 1])));
    let Some(Act::Take { round, places }) = bench.next() else { panic!("nothing was taken") };
    assert_eq!(places, set(&of(A, &[1])));
    bench.expect_beat(2, false, Some(&of(A, &[0, 1])));
    let handed = bench.member.taken(round, bench.now).unwrap();
    assert_eq!(handed, Handed { all: set(&of(A, &[0, 1])), new: set(&of(A, &[1])) });
}

#[test]
fn what_goes_is_claimed_until_the_caller_lets_go_and_only_then_is_the_new_taken() {
    let mut bench = Bench::with(&[0, 1]);
    bench.wait();
    bench.expect_beat(1, false, None);
    bench.answer(1, Some(&of(A, &[0, 2])));
    assert_eq!(bench.next(), Some(Act::Revoke { places: set(&of(A, &[1])), lost: false }));
    bench.wait();
    bench.expect_beat(1, false, None);
    bench.answer(1, None);
    assert_eq!(bench.next(), None, "the caller has not let go");
    bench.member.released(bench.now);
    bench.expect_beat(1, false, Some(&of(A, &[0])));
    bench.answer(2, None);
    let Some(Act::Take { places, .. }) = bench.next() else { panic!("nothing was taken") };
    assert_eq!(places, set(&of(A, &[2])));
}

/// Such an answer may be to a heartbeat that said less than what is taken meanwhile.
#[test]
fn nothing_is_taken_while_a_heartbeat_is_under_way_or_unanswered() {
    let mut bench = Bench::new();
    bench.expect_beat(JOIN, true, Some(&[]));
    bench.answer(1, Some(&of(B, &[0])));
    let Some(Act::Look(ids)) = bench.next() else { panic!("the name is not known") };
    bench.wait();
    bench.expect_beat(1, false, None);
    let names = ids.into_iter().map(|id| (id, "late".to_owned())).collect();
    bench.member.resolved(names, bench.now, 1.0);
    assert_eq!(bench.next(), None, "the heartbeat under way claims nothing");
    assert!(bench.fail(ErrorCode::NotCoordinator));
    assert_eq!(bench.next(), None, "it may have arrived");
    bench.wait();
    bench.expect_beat(1, true, Some(&[]));
    bench.answer(1, Some(&[]));
    bench.settle(&[]);
}

#[test]
fn what_is_taken_back_before_it_was_handed_out_is_never_seen() {
    let mut bench = Bench::with(&[]);
    bench.wait();
    bench.expect_beat(1, false, None);
    bench.answer(2, Some(&of(A, &[0])));
    bench.member.resolved(BTreeMap::from([(A, "a".to_owned())]), bench.now, 1.0);
    let Some(Act::Take { round, .. }) = bench.next() else { panic!("nothing was taken") };
    bench.expect_beat(2, false, Some(&of(A, &[0])));
    bench.answer(2, Some(&[]));
    bench.expect_beat(2, false, Some(&[]));
    assert_eq!(bench.member.taken(round, bench.now).unwrap().all, Places::new());
}

#[test]
fn a_name_that_is_not_known_yet_is_asked_for_again_until_the_assignment_drops_it() {
    let mut bench = Bench::with(&[0]);
    bench.wait();
    bench.expect_beat(1, false, None);
    bench.answer(2, Some(&[(A, 0), (B, 0)]));
    for _ in 0..3 {
        assert_eq!(bench.next(), Some(Act::Look(BTreeSet::from([B]))));
        bench.member.resolved(BTreeMap::new(), bench.now, 1.0);
        assert_eq!(bench.next(), None, "not without a pause");
        bench.wait();
    }
    assert_eq!(bench.next(), Some(Act::Look(BTreeSet::from([B]))));
    bench.now = INTERVAL * 2;
    bench.expect_beat(2, false, None);
    bench.answer(3, Some(&of(A, &[0])));
    bench.member.resolved(BTreeMap::new(), bench.now, 1.0);
    assert_eq!(bench.next(), None);
}

#[test]
fn after_a_failure_everything_is_said_again_after_a_pause_that_grows() {
    let mut bench = Bench::with(&[0]);
    bench.wait();
    bench.expect_beat(1, false, None);
    for code in [ErrorCode::CoordinatorLoadInProgress, ErrorCode::NotCoordinator] {
        let failed_at = bench.now;
        assert!(bench.fail(code));
        bench.wait();
        assert!(bench.now > failed_at);
        bench.expect_beat(1, true, Some(&of(A, &[0])));
    }
    bench.answer(1, Some(&of(A, &[0])));
    bench.wait();
    bench.expect_beat(1, false, None);
}

#[test]
fn who_is_put_out_loses_everything_and_joins_again_when_the_caller_knows() {
    for code in [ErrorCode::FencedMemberEpoch, ErrorCode::UnknownMemberId] {
        let mut bench = Bench::with(&[0, 1]);
        bench.wait();
        bench.expect_beat(1, false, None);
        assert!(bench.fail(code));
        assert_eq!(bench.next(), Some(Act::Revoke { places: set(&of(A, &[0, 1])), lost: true }));
        assert_eq!((bench.next(), bench.member.wake_at()), (None, None));
        bench.member.released(bench.now);
        bench.expect_beat(JOIN, true, Some(&[]));
        bench.answer(4, Some(&of(A, &[1])));
        bench.settle(&of(A, &[1]));
    }
}

#[test]
fn what_the_caller_is_letting_go_of_is_not_lost_a_second_time() {
    let mut bench = Bench::with(&[0, 1]);
    bench.wait();
    bench.expect_beat(1, false, None);
    bench.answer(1, Some(&of(A, &[0])));
    assert_eq!(bench.next(), Some(Act::Revoke { places: set(&of(A, &[1])), lost: false }));
    bench.wait();
    bench.expect_beat(1, false, None);
    assert!(bench.fail(ErrorCode::UnknownMemberId));
    assert_eq!(bench.next(), Some(Act::Revoke { places: set(&of(A, &[0])), lost: true }));
    bench.member.released(bench.now);
    assert_eq!(bench.next(), None, "the caller has let go of the first, and not heard of the loss");
    bench.member.released(bench.now);
    bench.expect_beat(JOIN, true, Some(&[]));
}

#[test]
fn positions_found_after_the_membership_was_lost_are_nobodys() {
    let mut bench = Bench::with(&[0]);
    bench.wait();
    bench.expect_beat(1, false, None);
    bench.answer(2, Some(&of(A, &[0, 1])));
    let Some(Act::Take { round, .. }) = bench.next() else { panic!("nothing was taken") };
    bench.expect_beat(2, false, Some(&of(A, &[0, 1])));
    assert!(bench.fail(ErrorCode::FencedMemberEpoch));
    assert_eq!(bench.member.taken(round, bench.now), None);
}

#[test]
fn what_no_joining_can_heal_is_the_end() {
    for code in [
        ErrorCode::UnreleasedInstanceId,
        ErrorCode::FencedInstanceId,
        ErrorCode::UnsupportedAssignor,
        ErrorCode::GroupMaxSizeReached,
        ErrorCode::InvalidRegularExpression,
        ErrorCode::GroupAuthorizationFailed,
        ErrorCode::InvalidRequest,
        ErrorCode::UnsupportedVersion,
    ] {
        let mut bench = Bench::new();
        bench.expect_beat(JOIN, true, Some(&[]));
        assert!(!bench.fail(code), "{code:?}");
    }
}

#[test]
fn a_coordinator_that_never_answers_is_the_end_but_not_soon() {
    let mut bench = Bench::with(&[0]);
    bench.wait();
    let (begun, mut goes_on) = (bench.now, true);
    while goes_on {
        match bench.next() {
            Some(Act::Beat(_)) => goes_on = bench.fail(ErrorCode::CoordinatorNotAvailable),
            // From here on it tries to join again, with new patience.
            Some(Act::Revoke { lost: true, .. }) => bench.member.released(bench.now),
            other => panic!("{other:?} at {:?}", bench.now),
        }
        if bench.member.acts.is_empty() {
            bench.wait();
        }
    }
    let silent = bench.now - begun;
    assert!(silent > Duration::from_secs(140) && silent < Duration::from_secs(180), "{silent:?}");
}

#[test]
fn who_is_cut_off_for_a_session_has_lost_what_it_had_and_comes_back_for_it() {
    let mut bench = Bench::with(&[0, 1]);
    let begun = bench.now;
    let lost = loop {
        bench.wait();
        match bench.next() {
            Some(Act::Beat(_)) => assert!(bench.fail(ErrorCode::CoordinatorNotAvailable)),
            other => panic!("{other:?}"),
        }
        if let Some(Act::Revoke { places, lost: true }) = bench.member.acts.pop_front() {
            break places;
        }
        assert!(bench.now - begun < Duration::from_secs(60), "it reads on");
    };
    assert_eq!(lost, set(&of(A, &[0, 1])));
    assert!(bench.now - begun >= Duration::from_secs(40), "no sooner than the session: {:?}", bench.now);
    bench.member.released(bench.now);
    bench.expect_beat(JOIN, true, Some(&[]));
    bench.answer(7, Some(&of(A, &[1])));
    bench.settle(&of(A, &[1]));
}

#[test]
fn a_heartbeat_is_waited_for_as_long_as_three_are_sent() {
    assert_eq!(Bench::new().member.beat_patience(), BEAT_PATIENCE);
    let mut bench = Bench::with(&[0]);
    assert_eq!(bench.member.beat_patience(), Duration::from_secs(15));
    let intervals = [(1_000, 3_000), (100, 1_000), (60_000, 15_000)];
    for (interval, patience) in intervals.map(|(a, b)| (Duration::from_millis(a), Duration::from_millis(b))) {
        bench.now += Duration::from_secs(100);
        assert!(matches!(bench.next(), Some(Act::Beat(_))));
        bench.member.answered(Answer { epoch: 1, interval, assignment: None }, bench.now);
        assert_eq!(bench.member.beat_patience(), patience, "{interval:?}");
    }
}
