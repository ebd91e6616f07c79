//! Sends responses: bytes as they are, records from the log's files by sendfile(2).
//!
//! Long ranges go from the page cache to the socket within the kernel, which holds them back until a segment is full
//! (`TCP_CORK`): many ranges in a row cost no more segments than one. Short ones are read and leave with what is
//! around them: up to [`DIRECT`], one copy costs less than the system calls it saves. What is not a plain socket
//! gets everything that way.
//!
//! Invariant: what was announced is sent in full, or the connection ends; nothing is ever made up in between. It ends when
//! the other side reads nothing for too long, and not when it is slow: what it asks for again would be as large.

use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use headwater_log::{DiskFile, FileRange};
use headwater_security::Writing;
use thiserror::Error;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::mirror::LogFile;
use crate::outgoing::{Outgoing, Part};
use crate::sendfile;

/// From this length on a range is sent by the kernel.
const DIRECT: usize = 12 << 10;
/// So much is read before it is sent: what the processor's nearer cache holds.
const STAGE: usize = 64 << 10;
/// Up to so much between two ranges is read with them: another system call costs more.
const GAP: u64 = 4 << 10;

/// Bytes that are to be sent, in a buffer that is used again.
#[derive(Default)]
struct Staged {
    buffer: Vec<u8>,
    length: usize,
    /// What the kernel has sent of this response since others had a turn.
    since_turn: usize,
    /// For how long the other side may read nothing.
    patience: Duration,
}

impl Staged {
    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    /// So many more bytes, to be written over.
    fn grow(&mut self, by: usize) -> &mut [u8] {
        let from = self.length;
        self.length += by;
        if self.buffer.len() < self.length {
            self.buffer.resize(self.length, 0);
        }
        &mut self.buffer[from..self.length]
    }

    fn extend(&mut self, bytes: &[u8]) {
        self.grow(bytes.len()).copy_from_slice(bytes);
    }
}

#[derive(Debug, Error)]
pub enum SendError {
    #[error(transparent)]
    Socket(io::Error),
    #[error("a response was not read in time")]
    Unread,
    #[error(
        "{length} bytes at byte {position} of {file} cannot be read: {source}; check the disk and the log's directory"
    )]
    Log { file: String, position: u64, length: usize, source: io::Error },
}

/// What a connection writes to.
pub trait Wire: AsyncWrite + Unpin + Send {
    /// The socket to which the kernel may write; `None` where bytes are changed on their way.
    fn socket(&self) -> Option<&TcpStream> {
        None
    }
}

impl Wire for Writing {
    fn socket(&self) -> Option<&TcpStream> {
        Writing::socket(self).filter(|_| cfg!(target_os = "linux"))
    }
}

/// Sends responses in their order; those without records leave together. `patience` is for how long the other side may
/// read nothing.
pub async fn send(wire: &mut impl Wire, answers: &[Outgoing], patience: Duration) -> Result<(), SendError> {
    let mut rest = answers;
    while let Some(answer) = rest.first() {
        let plain: Vec<&[u8]> = rest.iter().map_while(Outgoing::as_bytes).collect();
        if plain.is_empty() {
            send_scattered(wire, answer, patience).await?;
            rest = &rest[1..];
        } else {
            write_pieces(wire, &plain, patience).await?;
            rest = &rest[plain.len()..];
        }
    }
    // TLS keeps what the socket did not take at once.
    within(patience, wire.flush()).await
}

/// One step of sending, which ends as soon as something has moved.
async fn within<T>(patience: Duration, step: impl Future<Output = io::Result<T>>) -> Result<T, SendError> {
    timeout(patience, step).await.map_err(|_| SendError::Unread)?.map_err(SendError::Socket)
}

async fn write_pieces(wire: &mut impl Wire, pieces: &[&[u8]], patience: Duration) -> Result<(), SendError> {
    if let [piece] = pieces {
        return write(wire, piece, patience).await;
    }
    let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut slices = &mut slices[..];
    while !slices.is_empty() {
        let written = within(patience, wire.write_vectored(slices)).await?;
        if written == 0 {
            return Err(SendError::Socket(ErrorKind::WriteZero.into()));
        }
        IoSlice::advance_slices(&mut slices, written);
    }
    Ok(())
}

async fn write(wire: &mut impl Wire, mut bytes: &[u8], patience: Duration) -> Result<(), SendError> {
    while !bytes.is_empty() {
        let written = within(patience, wire.write(bytes)).await?;
        if written == 0 {
            return Err(SendError::Socket(ErrorKind::WriteZero.into()));
        }
        bytes = &bytes[written..];
    }
    Ok(())
}

async fn send_scattered(
    wire: &mut impl Wire,
    answer: &Outgoing,
    patience: Duration,
) -> Result<(), SendError> {
    let goes_direct = |part: Part<'_>| matches!(part, Part::Files(ranges) if ranges.iter().any(is_direct));
    let corks = wire.socket().is_some() && answer.parts().any(goes_direct);
    hold(wire, corks, true)?;
    let mut staged = Staged { patience, ..Staged::default() };
    for part in answer.parts() {
        match part {
            Part::Bytes(bytes) => staged.extend(bytes),
            Part::Files(ranges) => send_ranges(wire, &mut staged, ranges).await?,
        }
    }
    flush(wire, &mut staged, More::Nothing).await?;
    // What did not fill a segment leaves now.
    hold(wire, corks, false)
}

/// Whether segments that are not full wait for what follows.
fn hold(wire: &impl Wire, corks: bool, holds: bool) -> Result<(), SendError> {
    match wire.socket().filter(|_| corks) {
        Some(socket) => sendfile::hold(socket, holds).map_err(SendError::Socket),
        None => Ok(()),
    }
}

fn is_direct(range: &FileRange<LogFile>) -> bool {
    range.length >= DIRECT
}

/// Sends ranges or stages them, each as it costs least.
async fn send_ranges(
    wire: &mut impl Wire,
    staged: &mut Staged,
    mut ranges: &[FileRange<LogFile>],
) -> Result<(), SendError> {
    while let Some(first) = ranges.first() {
        let (span, rest) = ranges.split_at(near(ranges));
        let length = span_length(span);
        if is_direct(first) && wire.socket().is_some() {
            send_direct(wire, staged, first).await?;
            ranges = &ranges[1..];
            staged.since_turn += first.length;
            if staged.since_turn >= sendfile::TURN {
                staged.since_turn = 0;
                tokio::task::yield_now().await;
            }
            continue;
        }
        if length > STAGE {
            copy(wire, staged, first, 0).await?;
        } else {
            if staged.length + length > STAGE {
                flush(wire, staged, More::Follows).await?;
            }
            load(span, staged)?;
        }
        ranges = rest;
    }
    Ok(())
}

async fn send_direct(
    wire: &mut impl Wire,
    staged: &mut Staged,
    range: &FileRange<LogFile>,
) -> Result<(), SendError> {
    flush(wire, staged, More::Follows).await?;
    let sent = match wire.socket() {
        Some(socket) => sendfile::send(socket, range, staged.patience).await?,
        None => 0,
    };
    copy(wire, staged, range, sent).await
}

/// Stages a range from `done` on, and sends what is too much to keep.
async fn copy(
    wire: &mut impl Wire,
    staged: &mut Staged,
    range: &FileRange<LogFile>,
    mut done: usize,
) -> Result<(), SendError> {
    while done < range.length {
        if staged.length >= STAGE {
            flush(wire, staged, More::Follows).await?;
        }
        let length = (range.length - done).min(STAGE - staged.length);
        read(range, range.position + done as u64, length, staged)?;
        done += length;
    }
    Ok(())
}

/// Appends a part of a file.
fn read(
    range: &FileRange<LogFile>,
    position: u64,
    length: usize,
    staged: &mut Staged,
) -> Result<(), SendError> {
    let read = range.file.read_exact_at(staged.grow(length), position);
    read.map_err(|source| SendError::Log { file: range.id.name(), position, length, source })
}

/// How many ranges, the first one included, one read gets: of the same file, with little in between.
fn near(ranges: &[FileRange<LogFile>]) -> usize {
    let is_near = |pair: &&[FileRange<LogFile>]| {
        let end = pair[0].position + pair[0].length as u64;
        Arc::ptr_eq(&pair[0].file, &pair[1].file)
            && (end..=end + GAP).contains(&pair[1].position)
            && pair[1].position + pair[1].length as u64 - ranges[0].position <= STAGE as u64
    };
    1 + ranges.windows(2).take_while(is_near).count()
}

/// From the beginning of the first to the end of the last.
fn span_length(near: &[FileRange<LogFile>]) -> usize {
    match near {
        [first, .., last] => (last.position - first.position) as usize + last.length,
        [only] => only.length,
        [] => 0,
    }
}

/// Stages ranges with one read, and takes out what is between them.
fn load(near: &[FileRange<LogFile>], staged: &mut Staged) -> Result<(), SendError> {
    let Some(first) = near.first() else { return Ok(()) };
    let from = staged.length;
    read(first, first.position, span_length(near), staged)?;
    let mut to = from + first.length;
    for range in &near[1..] {
        let at = from + (range.position - first.position) as usize;
        staged.buffer.copy_within(at..at + range.length, to);
        to += range.length;
    }
    staged.length = to;
    Ok(())
}

/// Whether the kernel should wait for more before it sends a segment that is not full.
#[derive(Clone, Copy, PartialEq, Eq)]
enum More {
    Follows,
    Nothing,
}

async fn flush(wire: &mut impl Wire, staged: &mut Staged, more: More) -> Result<(), SendError> {
    match wire.socket() {
        Some(socket) if more == More::Follows && staged.length > 0 => {
            within(staged.patience, sendfile::write_ahead(socket, staged.bytes())).await?
        }
        _ => write(wire, staged.bytes(), staged.patience).await?,
    }
    staged.length = 0;
    Ok(())
}

#[cfg(test)]
mod tests;
