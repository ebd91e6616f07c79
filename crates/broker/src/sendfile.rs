//! The system calls of Linux that send files, under tokio's readiness.
//!
//! Invariant: a range that is not all there is an error; a file system that cannot send says so before a byte
//! has left.

use std::io;
use std::time::Duration;

use headwater_log::FileRange;
use tokio::net::TcpStream;

use crate::mirror::LogFile;
use crate::sending::SendError;

#[cfg(target_os = "linux")]
pub use linux::{hold, send, write_ahead};

/// After so much other tasks get their turn.
pub const TURN: usize = 1 << 20;

#[cfg(target_os = "linux")]
mod linux {
    use std::io::ErrorKind;

    use rustix::io::Errno;
    use rustix::net::SendFlags;
    use tokio::io::Interest;
    use tokio::time::timeout;

    use super::*;

    fn uninterrupted<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
        loop {
            match call() {
                Err(Errno::INTR) => {}
                other => return other.map_err(io::Error::from),
            }
        }
    }

    /// Whether the kernel keeps segments back until they are full.
    pub fn hold(socket: &TcpStream, holds: bool) -> io::Result<()> {
        rustix::net::sockopt::set_tcp_cork(socket, holds).map_err(io::Error::from)
    }

    /// Writes bytes that leave with what follows them.
    pub async fn write_ahead(socket: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
        let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
        while !bytes.is_empty() {
            let write = || uninterrupted(|| rustix::net::send(socket, bytes, flags));
            let written = socket.async_io(Interest::WRITABLE, write).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Sends all of a range, unless the other side reads nothing for as long as `patience`; 0 when the file system of the
    /// log cannot do it.
    pub async fn send(
        socket: &TcpStream,
        range: &FileRange<LogFile>,
        patience: Duration,
    ) -> Result<usize, SendError> {
        let mut sent = 0;
        while sent < range.length {
            let (position, length) = (range.position + sent as u64, range.length - sent);
            let turn = length.min(TURN);
            let send = || {
                let mut position = position;
                uninterrupted(|| rustix::fs::sendfile(socket, &*range.file, Some(&mut position), turn))
            };
            let moved = timeout(patience, socket.async_io(Interest::WRITABLE, send)).await;
            match moved.map_err(|_| SendError::Unread)? {
                Ok(0) => {
                    let source = ErrorKind::UnexpectedEof.into();
                    return Err(SendError::Log { file: range.id.name(), position, length, source });
                }
                Ok(more) => {
                    sent += more;
                    if more == TURN {
                        tokio::task::yield_now().await;
                    }
                }
                Err(source) => match Errno::from_io_error(&source) {
                    Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if sent == 0 => return Ok(0),
                    Some(Errno::IO) => {
                        return Err(SendError::Log { file: range.id.name(), position, length, source });
                    }
                    _ => return Err(SendError::Socket(source)),
                },
            }
        }
        Ok(sent)
    }
}

/// Elsewhere there is no socket to send to: [`crate::sending::Wire`] gives none.
#[cfg(not(target_os = "linux"))]
pub fn hold(_: &TcpStream, _: bool) -> io::Result<()> {
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub async fn write_ahead(_: &TcpStream, _: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
pub async fn send(_: &TcpStream, _: &FileRange<LogFile>, _: Duration) -> Result<usize, SendError> {
    Ok(0)
}
