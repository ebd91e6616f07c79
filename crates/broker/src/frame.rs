//! Requests as they arrive: a length, checked before a byte of it is believed, then so many bytes.
//!
//! A request that is not small waits for its share of the common memory before it is read. A connection that
//! rests keeps no buffer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use headwater_security::Reading;
use headwater_wire::ApiKey;
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use crate::api;
use crate::broker::Shared;
use crate::foreign::Foreign;
use crate::memory::{DESCRIBED_PARTITION, FREE, Share, Transfer};

/// Api key, version and correlation id.
pub const SHORTEST: usize = 8;
const LENGTH: usize = 4;
/// The longest request of a client that has not said who it is.
const STRANGERS: usize = 16 << 10;
/// The key of an API is looked at even where there is none.
const LEAST_TOKEN: usize = 2;
/// What is read ahead at most.
const AHEAD: usize = 64 << 10;
/// What a request may grow to when it is decoded.
const GROWTH: usize = 16;
/// The same of Fetch, whose partitions are the least that can be asked of many.
const FETCH_GROWTH: usize = 8;
/// Room for the start of a request of which nothing is known.
const LEAST: usize = 4 << 10;
/// Room that a read leaves unused tells that there is nothing more, without another system call.
const SPARE: usize = 64;
/// How far the buffer grows ahead of the bytes that are there.
const STEP: usize = 1 << 20;
/// The same where the request before was as large.
const BELIEVED: usize = 4 << 20;

#[derive(Debug, Error)]
pub enum FrameError {
    #[error("a request of {length} bytes, where {SHORTEST} to {longest} are allowed")]
    Length { length: i32, longest: usize },
    #[error("{0}")]
    Foreign(Foreign),
    #[error("the connection ended within a request")]
    Truncated,
    #[error("a request did not arrive in time")]
    Late,
    #[error("a request arrived so slowly that others waited for the memory it takes")]
    Slow,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// One request without its length; the memory is given back with it.
#[derive(Debug)]
pub struct Frame {
    pub bytes: Bytes,
    pub memory: Share,
}

/// What is known of a request when its first bytes are there.
struct Wanted {
    size: usize,
    memory: usize,
}

pub struct FrameReader {
    stream: Reading,
    buffer: BytesMut,
    shared: Arc<Shared>,
    /// For the request that is arriving.
    share: Share,
    /// While that waits for the client.
    transfer: Option<Transfer>,
    /// When the connection is given up: it moves with each request that begins or ends.
    deadline: Instant,
    /// Rings at the deadline or before: it is set anew only when it has rung too early, or would ring too late.
    alarm: Pin<Box<Sleep>>,
    /// Room for a request like the last one, so that one read gets all of it.
    usual: usize,
    /// How large the last request was: the client has shown that it sends so much.
    shown: usize,
    arriving: bool,
    ended: bool,
    limit: Limit,
}

/// What may be a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// A client that has not said who it is gets little room.
    Stranger,
    /// A token of SASL without a request around it.
    Token,
    Known,
}

impl FrameReader {
    pub fn new(stream: Reading, shared: Arc<Shared>) -> Self {
        let deadline = Instant::now() + shared.config.max_idle;
        Self {
            stream,
            buffer: BytesMut::new(),
            shared,
            share: Share::default(),
            transfer: None,
            deadline,
            alarm: Box::pin(sleep_until(deadline)),
            usual: LEAST,
            shown: 0,
            arriving: false,
            ended: false,
            limit: Limit::Known,
        }
    }

    pub fn limit(&mut self, limit: Limit) {
        self.limit = limit;
    }

    /// The next request; `None` at the end, or when none came for too long. Safe to cancel.
    pub async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            if !self.buffer.is_empty() && !self.arriving {
                self.arriving = true;
                self.deadline = Instant::now() + self.shared.config.transfer_timeout;
            }
            let wanted = self.wanted()?;
            let missing =
                wanted.as_ref().map(|wanted| (LENGTH + wanted.size).saturating_sub(self.buffer.len()));
            let room = match (wanted, missing) {
                (Some(wanted), Some(0)) => return self.take(&wanted).await.map(Some),
                (_, Some(missing)) => self.room(missing).await?,
                _ => self.usual,
            };
            if self.ended {
                return if self.buffer.is_empty() { Ok(None) } else { Err(FrameError::Truncated) };
            }
            match self.read(room).await? {
                Some(read) => self.ended = read == 0,
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(FrameError::Late),
            }
        }
    }

    /// The request that is there as a whole, with the memory for what becomes of it.
    async fn take(&mut self, wanted: &Wanted) -> Result<Frame, FrameError> {
        if wanted.memory > FREE {
            self.extend(wanted.memory).await?;
        }
        self.transfer = None;
        self.buffer.advance(LENGTH);
        let bytes = self.buffer.split_to(wanted.size).freeze();
        self.arriving = false;
        let size = LENGTH + wanted.size + SPARE;
        self.usual = size.clamp(LEAST, AHEAD);
        self.shown = size.min(BELIEVED);
        self.deadline = Instant::now() + self.shared.config.max_idle;
        Ok(Frame { bytes, memory: std::mem::take(&mut self.share) })
    }

    /// How much may be read of a request of which so much is missing; memory is taken for it as it arrives.
    async fn room(&mut self, missing: usize) -> Result<usize, FrameError> {
        let (there, room) = (self.buffer.len(), missing + SPARE);
        let covered = self.share.bytes().max(FREE);
        if there + room <= covered {
            return Ok(room);
        }
        if there < covered {
            return Ok(covered - there);
        }
        // A buffer that grows step by step is copied with each.
        let step = there.clamp(AHEAD, STEP).max(self.shown.saturating_sub(there));
        self.extend(there + room.min(step)).await?;
        self.transfer = Some(self.shared.memory.transfer(Duration::ZERO));
        Ok(room.min(self.share.bytes().saturating_sub(there)).max(LEAST))
    }

    async fn extend(&mut self, bytes: usize) -> Result<(), FrameError> {
        // Who waits for memory does not hold up anybody.
        self.transfer = None;
        let extended = timeout_at(self.deadline, self.shared.memory.extend(&mut self.share, bytes));
        extended.await.map_err(|_| FrameError::Late)
    }

    /// How many bytes came; `None` when none did in time.
    async fn read(&mut self, room: usize) -> Result<Option<usize>, FrameError> {
        if self.deadline < self.alarm.deadline() {
            self.alarm.as_mut().reset(self.deadline);
        }
        loop {
            tokio::select! {
                biased;
                read = fill(&mut self.stream, &mut self.buffer, room) => {
                    let read = read?;
                    self.transfer.iter().for_each(|transfer| transfer.moved(read));
                    return Ok(Some(read));
                }
                () = given_up(self.transfer.as_ref()) => return Err(FrameError::Slow),
                () = self.alarm.as_mut() => {
                    if self.deadline <= Instant::now() {
                        return Ok(None);
                    }
                    self.alarm.as_mut().reset(self.deadline);
                }
            }
        }
    }

    /// The size of the request that is arriving, as soon as its length and kind are known.
    fn wanted(&self) -> Result<Option<Wanted>, FrameError> {
        let config = &self.shared.config;
        let Some(head) = self.buffer.first_chunk::<{ LENGTH + 2 }>() else { return Ok(None) };
        let length = i32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let key = i16::from_be_bytes([head[4], head[5]]);
        let is_produce = key == ApiKey::Produce as i16;
        let (shortest, longest) = match self.limit {
            Limit::Stranger => (SHORTEST, STRANGERS),
            Limit::Token => (LEAST_TOKEN, STRANGERS),
            Limit::Known if is_produce => (SHORTEST, config.max_request_bytes),
            Limit::Known => (SHORTEST, config.max_other_request_bytes),
        };
        let size = usize::try_from(length).ok().filter(|size| (shortest..=longest).contains(size));
        let size = size.ok_or_else(|| match Foreign::of(length.to_be_bytes()) {
            Some(foreign) => FrameError::Foreign(foreign),
            None => FrameError::Length { length, longest },
        })?;
        let growth = match key {
            _ if is_produce => 1,
            _ if key == ApiKey::Fetch as i16 => FETCH_GROWTH,
            _ => GROWTH,
        };
        // A small request may be for the description of everything.
        let described = match api::describes_partitions(key) {
            true => self.shared.catalog.partitions() * DESCRIBED_PARTITION,
            false => 0,
        };
        let decoded = if size > FREE { size.saturating_mul(growth) } else { 0 };
        Ok(Some(Wanted { size, memory: decoded.saturating_add(described) }))
    }

    /// Returns when the other side has closed the connection; what it sends meanwhile is kept. Safe to cancel.
    pub async fn closed(&mut self) {
        while !self.ended {
            if self.buffer.len() >= AHEAD {
                return std::future::pending().await;
            }
            self.buffer.reserve(LEAST);
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(read) => self.ended = read == 0,
                Err(_) => self.ended = true,
            }
        }
        if !self.buffer.is_empty() {
            // What was sent before the end still counts.
            std::future::pending::<()>().await;
        }
    }

    /// The time in which nothing is asked counts from here.
    pub fn answered(&mut self) {
        if !self.arriving {
            self.deadline = Instant::now() + self.shared.config.max_idle;
        }
    }
}

/// Reads what is there, into room made when there is something. Safe to cancel.
async fn fill(stream: &mut Reading, buffer: &mut BytesMut, room: usize) -> io::Result<usize> {
    if buffer.is_empty() {
        *buffer = BytesMut::new();
        stream.readable().await?;
    }
    buffer.reserve(room);
    stream.read_buf(buffer).await
}

async fn given_up(transfer: Option<&Transfer>) {
    match transfer {
        Some(transfer) => transfer.given_up().await,
        None => std::future::pending().await,
    }
}
