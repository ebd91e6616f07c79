//! Entries of a store on their way to its backend.
//!
//! They gather over some commits, then are handed over, all at once. The shell may write what it was handed while the store is
//! used: until it says that they are there, they are read from memory and nothing of them is let go.

use std::sync::Arc;

use bytes::BytesMut;
use headwater_model::Bytes;

use super::rows::Handed;
use super::typed::Batch;

/// What an entry takes beside its key and its value, in bytes.
const ENTRY: usize = 96;
const SHEET: usize = 64 << 10;

/// Memory for many short pieces, so that none of them has its own, nor holds that of a whole fetch.
#[derive(Default)]
pub(super) struct Sheet(BytesMut);

impl Sheet {
    pub fn copy(&mut self, bytes: &[u8]) -> Bytes {
        self.join(&[], bytes)
    }

    /// One piece of two.
    pub fn join(&mut self, head: &[u8], rest: &[u8]) -> Bytes {
        let length = head.len() + rest.len();
        if self.0.capacity() < length {
            self.0 = BytesMut::with_capacity(SHEET.max(length));
        }
        self.0.extend_from_slice(head);
        self.0.extend_from_slice(rest);
        self.0.split().freeze()
    }
}

pub(super) struct Outbound {
    entries: Batch,
    sheet: Sheet,
    bytes: usize,
    /// Which handing over `entries` is for.
    over: u32,
    in_flight: Option<Arc<Batch>>,
}

impl Default for Outbound {
    fn default() -> Self {
        // 0 is of rows that were never handed over.
        Self { entries: Vec::new(), sheet: Sheet::default(), bytes: 0, over: 1, in_flight: None }
    }
}

impl Outbound {
    /// A row as it is encoded, with its key in an index. Of a row that comes again before it is handed over, the last stays.
    /// Returns a copy of what is stored.
    pub fn row(
        &mut self,
        key: &[u8],
        stored: Option<&[u8]>,
        index: Option<Bytes>,
        handed: &mut Handed,
    ) -> Option<Bytes> {
        let length = stored.map_or(0, <[u8]>::len);
        let stored = stored.map(|stored| self.sheet.copy(stored));
        let index = index.map(|index| (index, stored.as_ref().map(|_| Bytes::new())));
        let waiting = self.entries.get_mut(handed.at as usize).filter(|_| handed.over == self.over);
        if let Some((_, before)) = waiting {
            let comes_or_goes = before.is_some() != stored.is_some();
            self.bytes = self.bytes + length - before.as_ref().map_or(0, Bytes::len);
            before.clone_from(&stored);
            self.entries.extend(index.filter(|_| comes_or_goes));
            return stored;
        }
        self.bytes += key.len() + length + ENTRY;
        self.entries.extend(index);
        if let Ok(at) = u32::try_from(self.entries.len()) {
            *handed = Handed { over: self.over, at };
        }
        self.entries.push((self.sheet.copy(key), stored.clone()));
        stored
    }

    /// What is no row, or a row that has gone.
    pub fn extend(&mut self, entries: impl IntoIterator<Item = (Bytes, Option<Bytes>)>) {
        let Self { entries: all, bytes, .. } = self;
        all.extend(entries.into_iter().inspect(|(key, _)| *bytes += key.len() + ENTRY));
    }

    /// Entries, and about how many bytes.
    pub fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }

    /// Entries that gather, from the `from`th on.
    pub fn gathered(&self, from: usize) -> &[(Bytes, Option<Bytes>)] {
        self.entries.get(from..).unwrap_or_default()
    }

    pub fn in_flight(&self) -> &[(Bytes, Option<Bytes>)] {
        self.in_flight.as_deref().map_or(&[], Vec::as_slice)
    }

    /// For who writes them before anything else happens.
    pub fn take(&mut self) -> Batch {
        self.over += 1;
        self.bytes = 0;
        std::mem::take(&mut self.entries)
    }

    /// For who writes them meanwhile, and then calls [`Outbound::settle`].
    pub fn hand_over(&mut self) -> Arc<Batch> {
        let batch = Arc::new(self.take());
        self.in_flight = Some(Arc::clone(&batch));
        batch
    }

    /// The backend has what was handed over.
    pub fn settle(&mut self) {
        self.in_flight = None;
    }

    /// The backend has everything of this handing over, and of those before.
    pub fn settled(&self) -> u32 {
        self.over - 1 - u32::from(self.in_flight.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    #[test]
    fn of_a_row_that_comes_again_the_last_is_handed_over_and_what_is_under_way_stays_as_it_is() {
        let mut outbound = Outbound::default();
        let (mut one, mut two) = (Handed::default(), Handed::default());
        let (a, b) = (bytes("a"), bytes("b"));
        assert_eq!(outbound.row(&a, Some(b"1"), None, &mut one), Some(bytes("1")));
        outbound.row(&b, Some(b"1"), None, &mut two);
        let size = outbound.size();
        assert_eq!(outbound.row(&a, Some(b"22"), None, &mut one), Some(bytes("22")));
        assert_eq!(outbound.size(), (2, size.1 + 1));
        let under_way = outbound.hand_over();
        assert_eq!((outbound.size(), outbound.settled()), ((0, 0), 0));
        outbound.row(&a, None, None, &mut one);
        assert_eq!(*under_way, [(a.clone(), Some(bytes("22"))), (b.clone(), Some(bytes("1")))]);
        assert_eq!(outbound.in_flight(), &under_way[..]);
        assert_eq!(outbound.gathered(0), [(a.clone(), None)]);
        outbound.settle();
        assert_eq!((outbound.in_flight(), outbound.settled()), (&[][..], 1));
        outbound.row(&a, Some(b"3"), None, &mut one);
        assert_eq!(outbound.take(), [(a.clone(), Some(bytes("3")))]);
        assert_eq!(outbound.settled(), 2);
        outbound.row(&b, None, None, &mut two);
        assert_eq!(outbound.gathered(0), [(b, None)]);
    }

    #[test]
    fn an_index_follows_rows_that_come_and_go() {
        let mut outbound = Outbound::default();
        let mut handed = Handed::default();
        let (key, index) = (bytes("k"), bytes("i"));
        for stored in [Some("1"), Some("2"), None, Some("3")] {
            outbound.row(&key, stored.map(str::as_bytes), Some(index.clone()), &mut handed);
        }
        let (here, gone) = ((index.clone(), Some(Bytes::new())), (index, None));
        assert_eq!(outbound.take(), [here.clone(), (key, Some(bytes("3"))), gone, here]);
    }
}
