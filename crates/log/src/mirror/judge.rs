//! Which side of a mirrored log is believed at a start. No I/O: two findings go in, a verdict comes out.

use thiserror::Error;

use super::marker::{Found, Marker, Role};
use crate::planted::{self, Bug};

/// What a start does with the two sides; sides are 0 and 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Neither holds a log: both begin one.
    Begin,
    /// Both hold everything.
    Alike(Marker),
    /// One is believed and the other is filled from it.
    Fill { from: usize, known: Option<Marker> },
    /// One is believed and the other is not there.
    Alone { side: usize, known: Option<Marker>, reason: String },
}

/// Why a mirrored log is not opened: to go on would lose what somebody was promised.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MirrorError {
    #[error(
        "{} and {} each hold a log, and nothing says that one is the other's copy; keep the one you want, and empty the other directory so that it is filled again", .names[0], .names[1]
    )]
    TwoLogs { names: [String; 2] },
    #[error(
        "{} and {} have each gone on without the other, so each may hold records that the other lacks; keep the one you want, and empty the other directory (or move it away) so that it is filled again", .names[0], .names[1]
    )]
    Diverged { names: [String; 2] },
    #[error(
        "the copy in {name} is not complete: it was being filled from the other directory; start with that one, or restore a backup: headwater restore --from BACKUP --data-dir DIR"
    )]
    Incomplete { name: String },
    #[error(
        "{empty} holds no log and {absent} cannot be looked at ({reason}), so a new log might begin beside an old one; make {absent} accessible, or take headwater.mirror.dir out of the configuration"
    )]
    Nothing { empty: String, absent: String, reason: String },
    #[error("neither {} nor {} can be used: {reason}", .names[0], .names[1])]
    BothAbsent { names: [String; 2], reason: String },
    #[error(
        "what {name}/sides says cannot be read, so nobody knows whether that directory is behind; if it is, empty it and it is filled again; otherwise remove that file and empty the other directory"
    )]
    Illegible { name: String },
    #[error(
        "{name} cannot be used ({reason}), and headwater.mirror.required=true says not to go on without it; mount or mend it, or start once with --config headwater.mirror.required=false: the log goes on with the other directory alone, or fills this one when it is empty"
    )]
    Required { name: String, reason: String },
    #[error(
        "{name}: {reason}; make it readable and writable, or take headwater.mirror.dir out of the configuration"
    )]
    Io { name: String, reason: String },
}

/// `names` are for messages only.
pub fn judge(found: [Found; 2], names: &[String; 2]) -> Result<Verdict, MirrorError> {
    use Found::{Absent, Blank, Illegible, Marked, Unmarked};
    let incomplete = |side: usize| MirrorError::Incomplete { name: names[side].clone() };
    if let Some(side) = found.iter().position(|found| *found == Illegible) {
        return Err(MirrorError::Illegible { name: names[side].clone() });
    }
    if let Some(side) = found.iter().position(|found| matches!(found, Absent(_))) {
        return without(side, found, names);
    }
    let is_filling = |found: &Found| matches!(found, Marked(marker) if marker.role == Role::Filling);
    let filling = found.iter().position(is_filling);
    if let Some(side) = filling {
        let other = &found[1 - side];
        return match other {
            Marked(marker) if marker.role != Role::Filling => {
                Ok(Verdict::Fill { from: 1 - side, known: Some(marker.clone()) })
            }
            Unmarked => Ok(Verdict::Fill { from: 1 - side, known: None }),
            _ => Err(incomplete(side)),
        };
    }
    match found {
        [Blank, Blank] => Ok(Verdict::Begin),
        [Marked(marker), Blank] => Ok(Verdict::Fill { from: 0, known: Some(marker) }),
        [Blank, Marked(marker)] => Ok(Verdict::Fill { from: 1, known: Some(marker) }),
        [Unmarked, Blank] => Ok(Verdict::Fill { from: 0, known: None }),
        [Blank, Unmarked] => Ok(Verdict::Fill { from: 1, known: None }),
        [Marked(first), Marked(second)] => compare(first, second, names),
        _ => Err(MirrorError::TwoLogs { names: names.clone() }),
    }
}

fn compare(first: Marker, second: Marker, names: &[String; 2]) -> Result<Verdict, MirrorError> {
    if first.epoch == second.epoch || planted::is(Bug::BelieveStaleSide) {
        return Ok(Verdict::Alike(first));
    }
    match (first.supersedes(&second), second.supersedes(&first)) {
        // They were about to be marked as alike, and are.
        (true, true) => Ok(Verdict::Alike(first)),
        (true, false) => Ok(Verdict::Fill { from: 0, known: Some(first) }),
        (false, true) => Ok(Verdict::Fill { from: 1, known: Some(second) }),
        (false, false) => Err(MirrorError::Diverged { names: names.clone() }),
    }
}

fn without(absent: usize, found: [Found; 2], names: &[String; 2]) -> Result<Verdict, MirrorError> {
    let side = 1 - absent;
    let [first, second] = found;
    let (here, reason) = if side == 0 { (first, second) } else { (second, first) };
    let Found::Absent(reason) = reason else { unreachable!("the caller found it absent") };
    match here {
        Found::Absent(also) => {
            Err(MirrorError::BothAbsent { names: names.clone(), reason: format!("{reason}; {also}") })
        }
        Found::Blank => {
            Err(MirrorError::Nothing { empty: names[side].clone(), absent: names[absent].clone(), reason })
        }
        Found::Marked(marker) if marker.role == Role::Filling => {
            Err(MirrorError::Incomplete { name: names[side].clone() })
        }
        Found::Marked(marker) => Ok(Verdict::Alone { side, known: Some(marker), reason }),
        Found::Unmarked => Ok(Verdict::Alone { side, known: None, reason }),
        Found::Illegible => Err(MirrorError::Illegible { name: names[side].clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(first: Found, second: Found) -> Result<Verdict, MirrorError> {
        judge([first, second], &["A".to_owned(), "B".to_owned()])
    }

    fn paired(epoch: u64) -> Marker {
        Marker::new(epoch, Role::Paired)
    }

    #[test]
    fn a_side_that_went_on_alone_leads_and_the_other_is_filled() {
        let (old, alone) = (paired(1), paired(1).alone(2));
        let from = |first: &Marker, second: &Marker| match judged(
            Found::Marked(first.clone()),
            Found::Marked(second.clone()),
        ) {
            Ok(Verdict::Fill { from, .. }) => from,
            other => panic!("{other:?}"),
        };
        assert_eq!(from(&alone, &old), 0);
        assert_eq!(from(&old, &alone), 1);
        assert_eq!(from(&alone.alone(3), &old), 0);
    }

    #[test]
    fn two_sides_that_both_went_on_are_refused() {
        let (first, second) = (paired(1).alone(2), paired(1).alone(3));
        let refused = judged(Found::Marked(first), Found::Marked(second)).unwrap_err();
        assert!(matches!(refused, MirrorError::Diverged { .. }), "{refused}");
        let refused = judged(Found::Unmarked, Found::Marked(paired(1))).unwrap_err();
        assert!(refused.to_string().contains("empty the other directory"), "{refused}");
    }

    #[test]
    fn a_pairing_that_was_cut_short_is_judged_by_who_went_on() {
        // The order of writing: the lead proposes, the other takes the epoch, the lead takes it.
        let lead = paired(1).alone(2);
        let proposing = lead.proposing(9);
        let other = proposing.paired(9);
        let alike = judged(Found::Marked(proposing.clone()), Found::Marked(other.clone()));
        assert!(matches!(alike, Ok(Verdict::Alike(_))), "{alike:?}");
        let lead_went_on = judged(Found::Marked(proposing.alone(3)), Found::Marked(other.clone()));
        assert!(matches!(lead_went_on, Ok(Verdict::Fill { from: 0, .. })), "{lead_went_on:?}");
        let other_went_on = judged(Found::Marked(proposing), Found::Marked(other.alone(4)));
        assert!(matches!(other_went_on, Ok(Verdict::Fill { from: 1, .. })), "{other_went_on:?}");
    }

    #[test]
    fn an_incomplete_copy_is_never_believed() {
        let filling = Found::Marked(Marker::new(7, Role::Filling));
        for other in [Found::Blank, Found::Absent("gone".to_owned()), filling.clone()] {
            let refused = judged(filling.clone(), other).unwrap_err();
            assert!(matches!(refused, MirrorError::Incomplete { .. }), "{refused}");
        }
        let filled = judged(filling, Found::Marked(paired(1)));
        assert!(matches!(filled, Ok(Verdict::Fill { from: 1, .. })), "{filled:?}");
    }

    #[test]
    fn no_log_begins_beside_one_that_cannot_be_seen() {
        let refused = judged(Found::Blank, Found::Absent("not mounted".to_owned())).unwrap_err();
        assert!(refused.to_string().contains("not mounted"), "{refused}");
        assert_eq!(judged(Found::Blank, Found::Blank), Ok(Verdict::Begin));
    }
}
