//! Rows of a store in memory, encoded: one after the other in pieces of memory, and found by their hashes.
//!
//! A row takes as much as it is long and about 30 bytes, nothing else is held for its sake, and what all of them take is known. A row
//! that comes again with a value as long as before stays where it is. Memory is given back a piece at a time; growing and
//! letting go never hold up processing for longer than one piece or one of the many small tables takes.
//!
//! ```text
//! over u32 | at u32 | length of the key, highest bit: used | length of the value, all bits: there is no such row | key | value
//! ```

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

#[cfg(test)]
mod tests;

const TABLES: usize = 64;
/// A piece is such a part of what may be kept, within these bounds, in bytes.
const PIECES: usize = 16;
const SMALLEST_PIECE: usize = 4 << 10;
const PIECE: usize = 256 << 10;
const HEAD: usize = 16;
const USED: u32 = 1 << 31;
const ABSENT: u32 = u32::MAX;
/// Pieces that are looked over for one commit, and one more for so many that there are.
const LOOKS: usize = 16;
const LOOK_PER: usize = 8;

/// How much is kept between commits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub rows: usize,
    pub bytes: usize,
}

/// Where the row's last encoding lies among what is handed to the backend, and in which handing over that is: of one before,
/// it has gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Handed {
    pub over: u32,
    pub at: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    piece: u32,
    at: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    handed: Handed,
    /// It was read or written again since it was last looked over.
    used: bool,
    key: usize,
    /// `None`: the row is known not to be there.
    value: Option<usize>,
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *bytes.first_chunk::<HEAD>()?;
        let (key, value) = (u32::from_le_bytes([i, j, k, l]), u32::from_le_bytes([m, n, o, p]));
        Some(Self {
            handed: Handed { over: u32::from_le_bytes([a, b, c, d]), at: u32::from_le_bytes([e, f, g, h]) },
            used: key & USED != 0,
            key: (key & !USED) as usize,
            value: (value != ABSENT).then_some(value as usize),
        })
    }

    fn bytes(&self) -> [u8; HEAD] {
        let used = if self.used { USED } else { 0 };
        let value = self.value.map_or(ABSENT, |value| value as u32);
        let [a, b, c, d] = self.handed.over.to_le_bytes();
        let [e, f, g, h] = self.handed.at.to_le_bytes();
        let [i, j, k, l] = (self.key as u32 | used).to_le_bytes();
        let [m, n, o, p] = value.to_le_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    fn size(&self) -> usize {
        HEAD + self.key + self.value.unwrap_or(0)
    }
}

#[derive(Default)]
struct Piece {
    bytes: Vec<u8>,
    /// Of rows that are not here any more.
    dead: usize,
}

impl Piece {
    fn head(&self, at: u32) -> Option<Head> {
        Head::read(self.bytes.get(at as usize..)?)
    }

    fn key(&self, at: u32) -> &[u8] {
        let key = self.bytes.get(at as usize..).and_then(|rest| rest.get(HEAD..HEAD + Head::read(rest)?.key));
        key.unwrap_or_default()
    }
}

struct Pieces {
    all: Vec<Piece>,
    /// How long one is, unless a single row is longer.
    size: usize,
    /// The one that is written to.
    open: Option<u32>,
    /// Numbers of those that have been given back.
    free: Vec<u32>,
    allocated: usize,
}

impl Default for Pieces {
    fn default() -> Self {
        Self { all: Vec::new(), size: PIECE, open: None, free: Vec::new(), allocated: 0 }
    }
}

impl Pieces {
    fn key(&self, place: Place) -> &[u8] {
        self.all.get(place.piece as usize).map_or(&[], |piece| piece.key(place.at))
    }

    fn append(&mut self, head: Head, key: &[u8], value: &[u8]) -> Place {
        let size = head.size();
        let fits = |number: &u32| {
            let length = self.all[*number as usize].bytes.len();
            length == 0 || length + size <= self.size
        };
        let number = match self.open.filter(fits) {
            Some(number) => number,
            None => self.begin(),
        };
        // The first one grows as it needs to: many stores are small.
        let is_first = self.all.len() == 1;
        let bytes = &mut self.all[number as usize].bytes;
        if bytes.capacity() - bytes.len() < size {
            let before = bytes.capacity();
            let most = if is_first { bytes.len() } else { self.size };
            bytes.reserve_exact(most.min(self.size.saturating_sub(bytes.len())).max(size));
            self.allocated += bytes.capacity() - before;
        }
        let at = bytes.len() as u32;
        bytes.extend_from_slice(&head.bytes());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        Place { piece: number, at }
    }

    fn begin(&mut self) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.all.push(Piece::default());
            (self.all.len() - 1) as u32
        });
        self.open = Some(number);
        number
    }

    /// What lies there is of no row any more.
    fn bury(&mut self, place: Place) {
        if let Some(piece) = self.all.get_mut(place.piece as usize) {
            piece.dead += piece.head(place.at).map_or(0, |head| head.size());
        }
    }
}

pub(super) struct Rows {
    tables: Vec<HashTable<Place>>,
    hasher: RandomState,
    pieces: Pieces,
    /// The piece and the table that were looked over last.
    hand: usize,
    table: usize,
    rows: usize,
}

impl Default for Rows {
    fn default() -> Self {
        let tables = std::iter::repeat_with(HashTable::new).take(TABLES).collect();
        Self { tables, hasher: RandomState::default(), pieces: Pieces::default(), hand: 0, table: 0, rows: 0 }
    }
}

/// Not the bits by which a table places a row.
fn table_of(hash: u64) -> usize {
    (hash >> 40) as usize % TABLES
}

impl Rows {
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Where a row is, until one is let go.
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<Place> {
        let table = &self.tables[table_of(hash)];
        table.find(hash, |place| self.pieces.key(*place) == key).copied()
    }

    /// The row as it is encoded, with `Some(None)` for one that is known not to be there.
    pub fn peek(&self, hash: u64, key: &[u8]) -> Option<Option<&[u8]>> {
        let place = self.find(hash, key)?;
        let row = self.pieces.all.get(place.piece as usize)?.bytes.get(place.at as usize..)?;
        let head = Head::read(row)?;
        let Some(length) = head.value else { return Some(None) };
        row.get(HEAD + head.key..)?.get(..length).map(Some)
    }

    /// As [`Rows::peek`], for who uses it.
    pub fn get(&mut self, hash: u64, key: &[u8]) -> Option<Option<&[u8]>> {
        let place = self.find(hash, key)?;
        let row = self.pieces.all.get_mut(place.piece as usize)?.bytes.get_mut(place.at as usize..)?;
        let head = Head::read(row)?;
        if !head.used {
            row.first_chunk_mut::<HEAD>()?.copy_from_slice(&Head { used: true, ..head }.bytes());
        }
        let Some(length) = head.value else { return Some(None) };
        row.get(HEAD + head.key..)?.get(..length).map(Some)
    }

    /// Keeps a row, which was `found` before if it was there. `hand` is told where its last encoding lies among what is handed
    /// over, and says where this one does.
    pub fn put(
        &mut self,
        (key, found): (&[u8], Option<Place>),
        value: Option<&[u8]>,
        used: bool,
        hand: impl FnOnce(&mut Handed),
    ) {
        let Self { tables, hasher, pieces, rows, .. } = self;
        let mut head =
            Head { handed: Handed::default(), used, key: key.len(), value: value.map(<[u8]>::len) };
        let value = value.unwrap_or_default();
        if let Some(row) = found
            .and_then(|place| pieces.all.get_mut(place.piece as usize)?.bytes.get_mut(place.at as usize..))
            && let Some(before) = Head::read(row).filter(|before| before.value == head.value)
        {
            head.handed = before.handed;
            hand(&mut head.handed);
            row[..HEAD].copy_from_slice(&head.bytes());
            row[HEAD + key.len()..head.size()].copy_from_slice(value);
            return;
        }
        let hash = hasher.hash_one(key);
        let (is, again) =
            (|place: &Place| pieces.key(*place) == key, |place: &Place| hasher.hash_one(pieces.key(*place)));
        match tables[table_of(hash)].entry(hash, is, again) {
            Entry::Occupied(known) => {
                let place = known.into_mut();
                let piece = &mut pieces.all[place.piece as usize];
                let before = piece.head(place.at);
                head.handed = before.map(|before| before.handed).unwrap_or_default();
                hand(&mut head.handed);
                let same_place = before.is_some_and(|before| before.value == head.value);
                match piece.bytes.get_mut(place.at as usize..) {
                    Some(row) if same_place => {
                        row[..HEAD].copy_from_slice(&head.bytes());
                        row[HEAD + key.len()..head.size()].copy_from_slice(value);
                    }
                    _ => {
                        pieces.bury(*place);
                        *place = pieces.append(head, key, value);
                    }
                }
            }
            Entry::Vacant(free) => {
                hand(&mut head.handed);
                free.insert(pieces.append(head, key, value));
                *rows += 1;
            }
        }
    }

    pub fn remove(&mut self, key: &[u8]) {
        let hash = self.hash(key);
        let Self { tables, pieces, rows, .. } = self;
        let found = tables[table_of(hash)].find_entry(hash, |place| pieces.key(*place) == key);
        if let Ok(known) = found {
            let (place, _) = known.remove();
            pieces.bury(place);
            *rows -= 1;
        }
    }

    /// Forgets what lies before `end`.
    pub fn remove_before(&mut self, end: &[u8]) {
        for number in 0..self.pieces.all.len() {
            self.sweep(number, |_, key| key >= end, |_| {});
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// What they take, in bytes.
    pub fn bytes(&self) -> usize {
        let tables: usize = self.tables.iter().map(HashTable::allocation_size).sum();
        tables + self.pieces.allocated
    }

    /// Lets rows go that the backend has, as it has what was `settled`, until no more than the limits are kept: those that
    /// were not used for longest, or about that, and tells their keys. Where much is to go it takes more than one call.
    pub fn evict(&mut self, limits: Limits, settled: u32, mut gone: impl FnMut(&[u8])) {
        self.pieces.size = (limits.bytes / PIECES).clamp(SMALLEST_PIECE, PIECE);
        for _ in 0..LOOKS + self.pieces.all.len() / LOOK_PER {
            let too_large = self.bytes() > limits.bytes;
            let mut surplus = if too_large { usize::MAX } else { self.rows.saturating_sub(limits.rows) };
            if surplus == 0 {
                return;
            }
            self.hand = (self.hand + 1) % self.pieces.all.len().max(1);
            let stays = |head: &mut Head, _: &[u8]| {
                // The first time around spares what was used.
                let stays = surplus == 0 || head.handed.over > settled || std::mem::take(&mut head.used);
                surplus -= usize::from(!stays);
                stays
            };
            self.sweep(self.hand, stays, &mut gone);
            self.table = (self.table + 1) % TABLES;
            self.shrink();
        }
    }

    /// Gives back what a table has for many more rows than it holds.
    fn shrink(&mut self) {
        let Self { tables, hasher, pieces, .. } = self;
        let table = &mut tables[self.table];
        if table.capacity() > 4 * table.len() {
            table.shrink_to(2 * table.len(), |place| hasher.hash_one(pieces.key(*place)));
        }
    }

    /// Lets rows of a piece go that do not stay. The others move elsewhere if that gives back enough memory.
    fn sweep(
        &mut self,
        number: usize,
        mut stays: impl FnMut(&mut Head, &[u8]) -> bool,
        mut gone: impl FnMut(&[u8]),
    ) {
        let Self { tables, hasher, pieces, rows, .. } = self;
        let Some(Piece { mut bytes, mut dead }) = pieces.all.get_mut(number).map(std::mem::take) else {
            return;
        };
        let piece = number as u32;
        let mut at = 0;
        while let Some((mut head, row)) = row_at(&mut bytes, at) {
            let before = head;
            let (start, key) = row.split_at_mut(HEAD);
            let key = &key[..head.key];
            if stays(&mut head, key) {
                if head != before {
                    start.copy_from_slice(&head.bytes());
                }
            } else {
                let (hash, place) = (hasher.hash_one(key), Place { piece, at: at as u32 });
                if let Ok(known) = tables[table_of(hash)].find_entry(hash, |other| *other == place) {
                    known.remove();
                    *rows -= 1;
                    dead += head.size();
                    gone(key);
                }
            }
            at += head.size();
        }
        if dead * 4 < bytes.len() {
            pieces.all[number] = Piece { bytes, dead };
            return;
        }
        if pieces.open == Some(piece) {
            pieces.open = None;
        }
        let mut at = 0;
        while let Some((head, row)) = row_at(&mut bytes, at) {
            let (key, value) = row[HEAD..].split_at(head.key);
            let (hash, place) = (hasher.hash_one(key), Place { piece, at: at as u32 });
            if let Some(known) = tables[table_of(hash)].find_mut(hash, |other| *other == place) {
                *known = pieces.append(head, key, value);
            }
            at += head.size();
        }
        pieces.allocated -= bytes.capacity();
        if bytes.capacity() > 0 {
            pieces.free.push(piece);
        }
    }
}

/// The row that begins there.
fn row_at(bytes: &mut [u8], at: usize) -> Option<(Head, &mut [u8])> {
    let rest = bytes.get_mut(at..)?;
    let head = Head::read(rest)?;
    Some((head, rest.get_mut(..head.size())?))
}
