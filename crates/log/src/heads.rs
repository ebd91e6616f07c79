//! The heads of a file's frames, read one by one: a file may be larger than what is to be in memory of it.
//!
//! What is in memory at once is the head of one frame (its header and directory) and [`WINDOW`] bytes.

use std::io;

use crate::disk::DiskFile;
use crate::frame::{self, FrameHeader, HEADER};
use crate::place::FileId;
use crate::redundancy::{self, Found};

/// So much is read at once where the next frame is looked for, and where a head is compared with its checksum.
const WINDOW: usize = 64 << 10;

pub struct Heads<'a, F> {
    file: &'a F,
    id: FileId,
    salt: u64,
    length: u64,
}

impl<'a, F: DiskFile> Heads<'a, F> {
    /// # Errors
    /// Of the disk.
    pub fn new(file: &'a F, id: FileId, salt: u64) -> io::Result<Self> {
        Ok(Self { file, id, salt, length: file.len()? })
    }

    /// The frame that a place of the file belongs to: where it begins, and its head. A damaged one is put together
    /// from what the frames behind it repeat.
    ///
    /// # Errors
    /// Of the disk.
    pub fn around(&self, position: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
        let mut at = 0;
        while at <= position {
            if let Some(header) = self.whole_at(at)? {
                let end = at + header.len() as u64;
                if position < end {
                    return Ok(Some((at, self.head(at, &header)?)));
                }
                at = end;
                continue;
            }
            let Some((next, header)) = self.next(at + 1)? else { return Ok(None) };
            if position < next {
                let behind = Found { at: next, head: self.head(next, &header)?.into() };
                let mut repeated = redundancy::before(behind, at, self.id);
                let found = repeated.find(|found| found.at <= position);
                return Ok(found.map(|found| (found.at, found.head.into_owned())));
            }
            at = next;
        }
        Ok(None)
    }

    /// The header of a whole frame of the log's that begins here.
    fn whole_at(&self, at: u64) -> io::Result<Option<FrameHeader>> {
        let mut bytes = [0; HEADER];
        let length = self.length.saturating_sub(at).min(HEADER as u64) as usize;
        self.file.read_exact_at(&mut bytes[..length], at)?;
        let Some(header) = FrameHeader::parse(&bytes[..length], self.id) else { return Ok(None) };
        let fits = at.checked_add(header.len() as u64).is_some_and(|end| end <= self.length);
        let is_whole = header.salt == self.salt && fits && self.is_whole(at, &header)?;
        Ok(is_whole.then_some(header))
    }

    fn is_whole(&self, at: u64, header: &FrameHeader) -> io::Result<bool> {
        let mut check = header.check();
        let mut window = vec![0; WINDOW.min(header.body_at())];
        let end = at + header.body_at() as u64;
        let mut from = at + frame::CHECKED_FROM as u64;
        while from < end {
            let step = (end - from).min(window.len() as u64) as usize;
            self.file.read_exact_at(&mut window[..step], from)?;
            check.add(&window[..step]);
            from += step as u64;
        }
        Ok(check.is_right())
    }

    fn head(&self, at: u64, header: &FrameHeader) -> io::Result<Vec<u8>> {
        let mut head = vec![0; header.body_at()];
        self.file.read_exact_at(&mut head, at)?;
        Ok(head)
    }

    /// The next whole frame from a place on.
    fn next(&self, mut from: u64) -> io::Result<Option<(u64, FrameHeader)>> {
        let mut window = vec![0; WINDOW];
        while from < self.length {
            let step = (self.length - from).min(WINDOW as u64) as usize;
            self.file.read_exact_at(&mut window[..step], from)?;
            for place in memchr::memmem::find_iter(&window[..step], frame::MAGIC_BEGINS) {
                let at = from + place as u64;
                if let Some(header) = self.whole_at(at)? {
                    return Ok(Some((at, header)));
                }
            }
            // A magic may lie across two windows.
            let overlap = if from + (step as u64) < self.length { frame::MAGIC_BEGINS.len() - 1 } else { 0 };
            from += (step - overlap) as u64;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use headwater_wire::{BatchBuilder, BatchHeader, Compression, batch};

    use super::*;
    use crate::PartitionId;
    use crate::frame::{Directory, FrameOf, Previous, put_batch};
    use crate::redundancy::marker_in;

    const SALT: u64 = 7;

    /// Counts the most that was asked for at once.
    struct Counting {
        bytes: Vec<u8>,
        most: AtomicUsize,
    }

    impl DiskFile for Counting {
        fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
            self.most.fetch_max(buffer.len(), Ordering::Relaxed);
            let from = position as usize;
            let there = self.bytes.get(from..from + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(there);
            Ok(())
        }

        fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn len(&self) -> io::Result<u64> {
            Ok(self.bytes.len() as u64)
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn file() -> FileId {
        FileId::journal(3)
    }

    /// Commits of a batch and a marker, each with a body of many windows that is full of what looks like frames, and
    /// where their markers are.
    fn journal() -> (Vec<u8>, Vec<(u64, Vec<u8>)>) {
        let (mut out, mut markers, mut previous) = (Vec::new(), Vec::new(), Previous::default());
        let id = PartitionId { topic_id: [1; 16], partition: 0 };
        let mut forged = Vec::new();
        let empty = Directory::default();
        empty.write(FrameOf { file: file(), salt: SALT + 1, sequence: 1, synced: 9 }, &mut forged);
        for sequence in 0..5_u64 {
            let mut builder = BatchBuilder::new();
            builder.push(0, None, Some(&forged.repeat(3 * WINDOW / forged.len())), &[]);
            let data = builder.build(Compression::None, None, false).unwrap();
            let marker = batch::transaction_marker(7, 0, true, 0, 0);
            let of =
                |bytes: &[u8], base_offset| BatchHeader { base_offset, ..BatchHeader::read(bytes).unwrap() };
            let base = 2 * sequence as i64;
            let mut directory = Directory::default();
            directory.run(id, [of(&data, base), of(&marker, base + 1)].iter());
            directory.copy(&marker, base + 1);
            directory.repeat(&previous);
            directory.to_repeat(&mut previous);
            directory.write(FrameOf { file: file(), salt: SALT, sequence, synced: sequence }, &mut out);
            put_batch(&mut out, &data, base);
            let at = out.len();
            put_batch(&mut out, &marker, base + 1);
            markers.push((at as u64, out[at..].to_vec()));
        }
        (out, markers)
    }

    fn copy_of(bytes: &[u8], position: u64) -> Option<Vec<u8>> {
        let file_of = Counting { bytes: bytes.to_vec(), most: AtomicUsize::new(0) };
        let heads = Heads::new(&file_of, file(), SALT).unwrap();
        let found = heads.around(position).unwrap();
        let copy = found.and_then(|(at, head)| marker_in(&head, file(), (position - at) as usize));
        assert!(file_of.most.into_inner() <= WINDOW);
        copy
    }

    #[test]
    fn the_copy_of_a_marker_is_found_without_the_file_in_memory() {
        let (bytes, markers) = journal();
        for (at, marker) in &markers {
            assert_eq!(copy_of(&bytes, *at).as_ref(), Some(marker));
        }
        assert_eq!(copy_of(&bytes, markers[0].0 - 1), None, "no marker begins there");
    }

    #[test]
    fn a_damaged_head_is_read_in_the_frame_behind_it() {
        let (bytes, markers) = journal();
        let begins: Vec<usize> =
            [0].into_iter().chain(markers.iter().map(|(at, of)| *at as usize + of.len())).collect();
        for (damaged, bit) in
            (0..5).flat_map(|damaged| (0..HEADER * 8).step_by(29).map(move |bit| (damaged, bit)))
        {
            let mut bytes = bytes.clone();
            bytes[begins[damaged] + bit / 8] ^= 1 << (bit % 8);
            for (number, (at, marker)) in markers.iter().enumerate() {
                // The last one has nothing behind it.
                let expected = Some(marker).filter(|_| (number, damaged) != (4, 4));
                assert_eq!(
                    copy_of(&bytes, *at).as_ref(),
                    expected,
                    "marker {number}, bit {bit} of head {damaged}"
                );
            }
        }
        // Three in a row have a copy behind them, and of four the first has none.
        for (damaged, expected) in [(1..4, [true; 5]), (0..4, [false, true, true, true, true])] {
            let mut bytes = bytes.clone();
            begins[damaged].iter().for_each(|begin| bytes[begin + 20] ^= 1);
            let found: Vec<bool> = markers.iter().map(|(at, _)| copy_of(&bytes, *at).is_some()).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_file_that_ends_anywhere_is_no_error() {
        let (bytes, markers) = journal();
        for length in (0..bytes.len()).step_by(9_973) {
            for (at, marker) in &markers {
                let found = copy_of(&bytes[..length], *at);
                assert!(found.is_none_or(|found| found == *marker));
            }
        }
    }
}
