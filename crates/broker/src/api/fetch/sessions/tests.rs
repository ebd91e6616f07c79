use headwater_log::{Isolation, Offsets};
use headwater_wire::KafkaUuid;

use super::super::asked::TopicName;
use super::*;

fn asked(index: i32, offset: i64) -> Asked {
    let topic = TopicName { name: "t".to_owned().into(), id: KafkaUuid::ZERO };
    Asked { topic, index, offset, max_bytes: 100, leader_epoch: -1 }
}

fn opening(id: i32, epoch: i32, asked: Vec<Asked>) -> Opening {
    Opening { owner: Arc::default(), id, epoch, by_id: false, asked, forgotten: Vec::new() }
}

fn answer(asked: Asked, high_watermark: i64, bytes: usize) -> Answer {
    let offsets = Offsets { log_start: 0, high_watermark, last_stable: high_watermark };
    Answer { bytes, ..Answer::of_offsets(asked, offsets, Isolation::Uncommitted) }
}

/// A full request for partitions 0 to `count`, which have a high watermark of 5.
fn begin(sessions: &Sessions, count: i32, now: Instant) -> i32 {
    let all = (0..count).map(|index| asked(index, 0)).collect();
    let (context, asked) = sessions.open(opening(NONE, INITIAL, all), now).unwrap();
    let answers = asked.into_iter().map(|asked| answer(asked, 5, 0)).collect();
    sessions.close(context, answers, now).session_id
}

fn indexes(answers: &[Answer]) -> Vec<i32> {
    answers.iter().map(|answer| answer.asked.index).collect()
}

#[test]
fn a_session_tells_what_is_new_and_remembers_what_it_told() {
    let (sessions, now) = (Sessions::new(10), Instant::now());
    let id = begin(&sessions, 3, now);
    assert_ne!(id, NONE);
    let tell = |epoch, changed, found: &dyn Fn(Asked) -> Answer| {
        let (context, asked) = sessions.open(opening(id, epoch, changed), now).unwrap();
        let order: Vec<i32> = asked.iter().map(|asked| asked.index).collect();
        let response = sessions.close(context, asked.into_iter().map(found).collect(), now);
        assert_eq!((response.code, response.session_id), (ErrorCode::None, id));
        (order, indexes(&response.answers))
    };
    assert_eq!(tell(1, vec![], &|asked| answer(asked, 5, 0)), (vec![0, 1, 2], vec![]));
    let one_has_records = |asked: Asked| match asked.index {
        0 => answer(asked, 6, 10),
        _ => answer(asked, 5, 0),
    };
    assert_eq!(tell(2, vec![], &one_has_records), (vec![0, 1, 2], vec![0]));
    let higher = |asked: Asked| {
        assert_eq!(asked.offset, if asked.index == 0 { 6 } else { 0 });
        answer(asked, 6, 0)
    };
    assert_eq!(tell(3, vec![asked(0, 6)], &higher), (vec![1, 2, 0], vec![1, 2]));
    let refused = |asked: Asked| Answer::of_error(asked, ErrorCode::KafkaStorageError);
    assert_eq!(tell(4, vec![asked(7, 0)], &refused), (vec![1, 2, 0, 7], vec![1, 2, 0, 7]));
    assert_eq!(tell(5, vec![], &refused).1, [1, 2, 0, 7]);
    assert_eq!(tell(6, vec![], &|asked| answer(asked, 6, 0)).1, [1, 2, 0, 7]);
    assert!(tell(7, vec![], &|asked| answer(asked, 6, 0)).1.is_empty());
}

#[test]
fn partitions_are_forgotten_and_a_session_without_any_ends() {
    let (sessions, now) = (Sessions::new(10), Instant::now());
    let id = begin(&sessions, 2, now);
    let forget = |epoch, index| {
        let forgotten = vec![asked(index, 0).key()];
        sessions.open(Opening { forgotten, ..opening(id, epoch, Vec::new()) }, now).unwrap()
    };
    assert_eq!(forget(1, 0).1, [asked(1, 0)]);
    let (context, asked) = forget(2, 1);
    assert!(asked.is_empty());
    assert_eq!(sessions.close(context, Vec::new(), now).session_id, NONE);
    assert_eq!(lock(&sessions.cache).partitions, 0);
    let gone = sessions.open(opening(id, 3, Vec::new()), now).err();
    assert_eq!(gone, Some(ErrorCode::FetchSessionIdNotFound));
}

#[test]
fn what_does_not_fit_the_session_is_refused() {
    let (sessions, now) = (Sessions::new(10), Instant::now());
    let id = begin(&sessions, 2, now);
    let refusal = |opening| sessions.open(opening, now).err();
    assert_eq!(refusal(opening(id + 1, 1, vec![])), Some(ErrorCode::FetchSessionIdNotFound));
    assert_eq!(refusal(opening(id, 2, vec![])), Some(ErrorCode::InvalidFetchSessionEpoch));
    let by_id = Opening { by_id: true, ..opening(id, 1, vec![]) };
    assert_eq!(refusal(by_id), Some(ErrorCode::FetchSessionTopicIdError));
    assert_eq!(refusal(opening(id, 1, vec![])), None);
    assert_eq!(refusal(opening(id, 1, vec![])), Some(ErrorCode::InvalidFetchSessionEpoch));
    let (context, _) = sessions.open(opening(id, 2, vec![]), now).unwrap();
    sessions.open(opening(id, 3, vec![]), now).unwrap();
    let overtaken = sessions.close(context, vec![answer(asked(0, 0), 9, 9)], now);
    assert_eq!((overtaken.code, overtaken.answers.len()), (ErrorCode::InvalidFetchSessionEpoch, 0));
}

#[test]
fn nobody_goes_on_with_the_session_of_another_or_ends_it() {
    let (sessions, now) = (Sessions::new(10), Instant::now());
    let id = begin(&sessions, 2, now);
    let by_eve =
        |epoch| Opening { owner: Arc::new(Principal::user("eve")), ..opening(id, epoch, vec![asked(7, 0)]) };
    assert_eq!(sessions.open(by_eve(1), now).err(), Some(ErrorCode::FetchSessionIdNotFound));
    for epoch in [INITIAL, FINAL] {
        assert!(sessions.open(by_eve(epoch), now).is_ok(), "a full request is as good as any");
    }
    let (_, all) = sessions.open(opening(id, 1, Vec::new()), now).unwrap();
    assert_eq!(all, [asked(0, 0), asked(1, 0)]);
}

#[test]
fn a_full_request_ends_the_session_it_names() {
    let (sessions, now) = (Sessions::new(10), Instant::now());
    for epoch in [INITIAL, FINAL] {
        let id = begin(&sessions, 2, now);
        let (context, all) = sessions.open(opening(id, epoch, vec![asked(1, 0)]), now).unwrap();
        assert_eq!(all, [asked(1, 0)]);
        let response = sessions.close(context, vec![answer(asked(1, 0), 5, 0)], now);
        assert_eq!((response.session_id == NONE, response.answers.len()), (epoch == FINAL, 1));
        let gone = sessions.open(opening(id, 1, Vec::new()), now).err();
        assert_eq!(gone, Some(ErrorCode::FetchSessionIdNotFound));
    }
}

#[test]
fn a_full_cache_gives_way_to_larger_sessions_and_for_unused_ones() {
    let (sessions, now) = (Sessions::new(2), Instant::now());
    let (small, large) = (begin(&sessions, 1, now), begin(&sessions, 5, now));
    let continues = |id, epoch, now| sessions.open(opening(id, epoch, vec![]), now).is_ok();
    assert_eq!(begin(&sessions, 9, now), NONE, "young ones stay");
    let settled = now + SETTLED + Duration::from_secs(1);
    let almost = now + SETTLED;
    assert!(continues(small, 1, almost) && continues(large, 1, almost));
    assert_eq!(begin(&sessions, 1, settled), NONE, "it is not larger than any");
    let larger = begin(&sessions, 2, settled);
    assert_ne!(larger, NONE);
    assert!(!continues(small, 2, settled), "the smallest went");
    assert!(continues(large, 2, settled));
    let later = settled + SETTLED + Duration::from_secs(1);
    assert!(continues(large, 3, later));
    assert_ne!(begin(&sessions, 1, later), NONE, "one was not used");
    assert!(!continues(larger, 1, later));
    assert_eq!(lock(&sessions.cache).slots.len(), 2);
}

#[test]
fn the_partitions_of_all_sessions_are_bounded() {
    let (sessions, now) = (Sessions::new(10), Instant::now());
    let most = MOST_PARTITIONS as i32;
    let id = begin(&sessions, most - 1, now);
    assert_eq!(begin(&sessions, 2, now), NONE);
    let other = begin(&sessions, 1, now);
    assert_ne!(other, NONE);
    let grown = sessions.open(opening(other, 1, vec![asked(1, 0)]), now).err();
    assert_eq!(grown, Some(ErrorCode::FetchSessionIdNotFound));
    assert!(sessions.open(opening(id, 1, Vec::new()), now).is_ok());
    assert_eq!(lock(&sessions.cache).partitions, MOST_PARTITIONS - 1);
}

#[test]
fn what_a_quota_keeps_back_is_news_the_next_time() {
    let (sessions, now) = (Sessions::new(10), Instant::now());
    let (context, _) = sessions.open(opening(NONE, INITIAL, vec![asked(0, 0)]), now).unwrap();
    assert_eq!(context.hold_back().session_id, NONE, "a session of nothing does not begin");
    let id = begin(&sessions, 2, now);
    let found = |asked: Vec<Asked>| asked.into_iter().map(|asked| answer(asked, 6, 10)).collect::<Vec<_>>();
    let (context, asked) = sessions.open(opening(id, 1, vec![]), now).unwrap();
    let nothing = context.size(&[]);
    assert!(context.size(&found(asked)) >= nothing + 20);
    let held = context.hold_back();
    assert_eq!((held.code, held.session_id, held.answers.len()), (ErrorCode::None, id, 0));
    let (context, asked) = sessions.open(opening(id, 2, vec![]), now).unwrap();
    let told = sessions.close(context, found(asked), now);
    assert_eq!(indexes(&told.answers), [0, 1]);
    let (context, asked) = sessions.open(opening(id, 3, vec![]), now).unwrap();
    let known: Vec<_> = asked.into_iter().map(|asked| answer(asked, 6, 0)).collect();
    assert_eq!(context.size(&known), nothing, "what is known takes nothing");
}
