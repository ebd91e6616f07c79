//! A file of the file system, with a way past the page cache for what nobody will read soon.
//!
//! What passes through the page cache costs a copy into pages that must be found first: where the memory is not warm
//! that is ten times what the disk's own transfer costs the processor. `O_DIRECT` needs memory, places and lengths in
//! whole blocks, so the ends of a frame go through the cache and its middle does not. Where the file system has no
//! such way, or refuses it, everything goes through the cache.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::OnceLock;

use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise, fallocate, sendfile};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::disk::DiskFile;

/// A multiple of every block size that file systems ask for.
const BLOCK: usize = 4096;

/// How far apart the places are at which residency is looked at.
const LOOK: usize = 64 << 10;

/// Where bytes go that nobody wants but in memory.
fn nowhere() -> Option<&'static File> {
    static NOWHERE: OnceLock<Option<File>> = OnceLock::new();
    NOWHERE.get_or_init(|| OpenOptions::new().write(true).open("/dev/null").ok()).as_ref()
}

/// An open file; see the module.
#[derive(Debug)]
pub struct RealFile {
    file: File,
    /// The same file without the page cache, once it was asked for; `None` where there is no such way.
    direct: OnceLock<Option<File>>,
    /// The same file without reading ahead, once it was asked for.
    no_more: OnceLock<Option<File>>,
}

impl From<File> for RealFile {
    fn from(file: File) -> Self {
        Self { file, direct: OnceLock::new(), no_more: OnceLock::new() }
    }
}

impl AsFd for RealFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// How many bytes to leave free at the beginning of a buffer whose memory is there already, so that what is behind them
/// and goes to `position` can pass the cache.
pub fn lead(buffer: &[u8], position: u64) -> usize {
    let address = buffer.as_ptr().addr() % BLOCK;
    let place = (position % BLOCK as u64) as usize;
    (BLOCK + place - address) % BLOCK
}

/// The most that [`lead`] says.
pub const LEAD: usize = BLOCK;

/// Splits what goes to `position` into what is before the first whole block, whole blocks, and the rest.
fn blocks(bytes: &[u8], position: u64) -> (&[u8], &[u8], &[u8]) {
    let before = (position.next_multiple_of(BLOCK as u64) - position).min(bytes.len() as u64) as usize;
    let (head, rest) = bytes.split_at(before);
    let (middle, tail) = rest.split_at(rest.len() / BLOCK * BLOCK);
    (head, middle, tail)
}

impl RealFile {
    fn direct(&self) -> Option<&File> {
        let open = || {
            OpenOptions::new().write(true).custom_flags(OFlags::DIRECT.bits() as i32).open(self.path()).ok()
        };
        self.direct.get_or_init(open).as_ref()
    }

    /// What was advised is so for whoever reads by the same descriptor, so there is another.
    fn no_more(&self) -> &File {
        let open = || {
            let file = File::open(self.path()).ok()?;
            fadvise(&file, 0, None, Advice::Random).ok().map(|()| file)
        };
        self.no_more.get_or_init(open).as_ref().unwrap_or(&self.file)
    }

    /// By its descriptor, as it may have another name by now.
    fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }

    /// Writes whole blocks past the cache and says how many bytes of them; the rest must go another way.
    fn write_blocks(&self, bytes: &[u8], position: u64) -> io::Result<usize> {
        let Some(direct) = self.direct().filter(|_| bytes.as_ptr().addr().is_multiple_of(BLOCK)) else {
            return Ok(0);
        };
        let mut done = 0;
        while done < bytes.len() && done.is_multiple_of(BLOCK) {
            match direct.write_at(&bytes[done..], position + done as u64) {
                Ok(0) => break,
                Ok(written) => done += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Not like this on this file system.
                Err(error)
                    if matches!(
                        error.raw_os_error().map(Errno::from_raw_os_error),
                        Some(Errno::INVAL | Errno::OPNOTSUPP)
                    ) =>
                {
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

impl DiskFile for RealFile {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        FileExt::read_exact_at(&self.file, buffer, position)
    }

    fn read_no_more_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        FileExt::read_exact_at(self.no_more(), buffer, position)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        FileExt::write_all_at(&self.file, bytes, position)
    }

    fn write_past_cache(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let (head, middle, tail) = blocks(bytes, position);
        let middle_at = position + head.len() as u64;
        self.write_all_at(head, position)?;
        let done = self.write_blocks(middle, middle_at)?;
        self.write_all_at(&middle[done..], middle_at + done as u64)?;
        self.write_all_at(tail, middle_at + middle.len() as u64)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        if self.len()? >= length {
            return Ok(());
        }
        match fallocate(&self.file, FallocateFlags::empty(), 0, length) {
            Ok(()) => Ok(()),
            // The file grows as it is written.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The kernel sends them nowhere: it reads them and ahead of them as for any reader, and nothing is copied.
    fn warm(&self, position: u64, length: usize) -> io::Result<()> {
        let Some(nowhere) = nowhere() else {
            return self.read_exact_at(&mut vec![0; length], position);
        };
        let mut done = 0;
        while done < length {
            let mut at = position + done as u64;
            match sendfile(nowhere, &self.file, Some(&mut at), length - done) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(sent) => done += sent,
                Err(Errno::INTR) => {}
                // A file system that cannot send.
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    return self.read_exact_at(&mut vec![0; length - done], at);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn forget(&self, position: u64, length: usize) {
        // Advice only: where it is not taken nothing is lost.
        let _ = fadvise(&self.file, position, NonZeroU64::new(length as u64), Advice::DontNeed);
    }

    fn is_resident(&self, position: u64, length: usize) -> bool {
        // The ends of what was written past the cache are in it.
        let middles = (0..length.div_ceil(LOOK)).map(|part| (part * LOOK + LOOK / 2).min(length / 2));
        let last = (length > LOOK).then_some(length.saturating_sub(1));
        let places = middles.chain(last);
        places.map(|at| position + at as u64).all(|at| {
            let mut byte = [0];
            let buffers = &mut [io::IoSliceMut::new(&mut byte)];
            // A file system that cannot tell is asked to read.
            matches!(preadv2(&self.file, buffers, at, ReadWriteFlags::NOWAIT), Ok(1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of many lengths, one behind the other, by both ways in turns, read through the cache.
    #[test]
    fn both_ways_write_the_same_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).expect("a file");
        let file = RealFile::from(file);
        file.allocate(1 << 20).expect("space");
        let (mut expected, mut buffer) = (Vec::new(), Vec::with_capacity(LEAD + (1 << 18)));
        for (turn, length) in
            [1, 4095, 4096, 10_000, 3, 200_000, 8191, 8192, 65_536, 100_001].into_iter().enumerate()
        {
            let position = expected.len() as u64;
            let bytes: Vec<u8> = (0..length).map(|at| (at * 7 + turn) as u8).collect();
            buffer.clear();
            buffer.resize(lead(&buffer, position), 0);
            let lead = buffer.len();
            buffer.extend_from_slice(&bytes);
            match turn % 3 {
                2 => file.write_all_at(&buffer[lead..], position).expect("written"),
                _ => file.write_past_cache(&buffer[lead..], position).expect("written"),
            }
            expected.extend_from_slice(&bytes);
            let mut read = vec![0; expected.len()];
            file.read_exact_at(&mut read, 0).expect("read");
            assert!(read == expected, "after {length} bytes at {position}");
        }
    }

    #[test]
    fn whole_blocks_are_found_and_the_lead_lines_them_up() {
        for position in [0_u64, 1, 4095, 4096, 4097, 1 << 30] {
            let buffer: Vec<u8> = Vec::with_capacity(LEAD + 20_000);
            let lead = lead(&buffer, position);
            assert!(lead < LEAD);
            let mut buffer = buffer;
            buffer.resize(lead + 20_000, 7);
            let (head, middle, tail) = blocks(&buffer[lead..], position);
            assert_eq!(head.len() + middle.len() + tail.len(), 20_000);
            assert_eq!((position + head.len() as u64) % BLOCK as u64, 0);
            assert!(middle.as_ptr().addr().is_multiple_of(BLOCK) && middle.len() >= 3 * BLOCK);
        }
        assert_eq!(blocks(b"short", 1).0, b"short");
    }

    #[test]
    fn what_was_let_go_is_resident_again_when_it_is_warm_and_what_is_not_there_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        let file = RealFile::from(
            OpenOptions::new().read(true).write(true).create_new(true).open(path).expect("a file"),
        );
        let bytes = vec![5; 300_000];
        file.write_all_at(&bytes, 0).expect("written");
        file.sync().expect("on disk");
        file.forget(0, bytes.len());
        // A file system in memory forgets nothing.
        file.warm(10_000, 200_000).expect("warm");
        assert!(file.is_resident(10_000, 200_000));
        file.warm(5, 0).expect("nothing to do");
        let error = file.warm(250_000, 50_001).expect_err("one byte is not there");
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }

    /// What does not lie as it must goes through the cache.
    #[test]
    fn what_is_not_lined_up_is_written_all_the_same() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        let file = RealFile::from(
            OpenOptions::new().read(true).write(true).create_new(true).open(path).expect("a file"),
        );
        let bytes = vec![5; 3 * BLOCK + 1];
        file.write_past_cache(&bytes[1..], 0).expect("written");
        file.write_past_cache(&bytes, 3 * BLOCK as u64).expect("written");
        assert_eq!(file.len().expect("a length"), 6 * BLOCK as u64 + 1);
    }
}
