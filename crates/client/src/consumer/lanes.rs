//! Which fetch goes when: the two lanes to a broker.
//!
//! A broker answers one connection's requests in order, so a fetch that waits for new records holds up every partition that
//! becomes hungry meanwhile. Therefore at most one of the two waits long, and only for partitions that have been read to
//! their end; the other is for those of which there is more. A partition that comes to its end while the first waits
//! without it is looked after by the second, along with those or for short waits, until one long wait holds them all.

/// Waits for new records.
pub(super) const LONG: usize = 0;
/// Fetches what is there.
pub(super) const QUICK: usize = 1;

/// What a lane has in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Partitions of which there is more.
    Behind,
    /// These, and others that no long wait holds.
    All,
    /// Partitions that have been read to their end, for a long wait.
    Ends,
    /// The same for a short one.
    EndsShortly,
}

/// What the lanes to one broker have in flight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lanes([Option<Kind>; 2]);

impl Lanes {
    /// The lanes that are to fly now, with what, if there are partitions of which there is more (`behind`) and others.
    pub(super) fn start(&mut self, behind: bool, ends: bool) -> Vec<(usize, Kind)> {
        let mut started = Vec::new();
        match self.0 {
            [Some(_), None] if behind && ends => started.push(self.fly(QUICK, Kind::All)),
            [Some(_), None] if ends => started.push(self.fly(QUICK, Kind::EndsShortly)),
            [_, None] if behind => started.push(self.fly(QUICK, Kind::Behind)),
            _ => {}
        }
        // What a short wait holds joins the long one as soon as it is back.
        let together = matches!(self.0, [None, None | Some(Kind::Behind)]);
        if ends && together {
            started.push(self.fly(LONG, Kind::Ends));
        }
        started
    }

    fn fly(&mut self, lane: usize, kind: Kind) -> (usize, Kind) {
        self.0[lane] = Some(kind);
        (lane, kind)
    }

    pub(super) fn landed(&mut self, lane: usize) {
        self.0[lane] = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_fetched_while_the_rest_waits() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.start(true, true), [(QUICK, Kind::Behind), (LONG, Kind::Ends)]);
        assert_eq!(lanes.start(true, true), []);
        lanes.landed(QUICK);
        assert_eq!(lanes.start(true, false), [(QUICK, Kind::Behind)]);
    }

    #[test]
    fn one_that_comes_to_its_end_is_looked_after_until_all_wait_together() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.start(false, true), [(LONG, Kind::Ends)]);
        assert_eq!(lanes.start(false, true), [(QUICK, Kind::EndsShortly)]);
        // Neither may begin a long wait without the other's partitions.
        lanes.landed(LONG);
        assert_eq!(lanes.start(false, true), []);
        lanes.landed(QUICK);
        assert_eq!(lanes.start(false, true), [(LONG, Kind::Ends)]);
    }

    #[test]
    fn what_no_long_wait_holds_goes_along_with_what_is_there() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.start(false, true), [(LONG, Kind::Ends)]);
        assert_eq!(lanes.start(true, true), [(QUICK, Kind::All)]);
        lanes.landed(QUICK);
        assert_eq!(lanes.start(true, false), [(QUICK, Kind::Behind)]);
        lanes.landed(QUICK);
        assert_eq!(lanes.start(false, true), [(QUICK, Kind::EndsShortly)]);
        assert_eq!(lanes.start(true, false), []);
        lanes.landed(LONG);
        assert_eq!(lanes.start(true, true), [], "they are to wait together");
    }
}
