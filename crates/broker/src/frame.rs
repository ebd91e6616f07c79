//! Requests as they arrive: a length, checked before a byte of it is believed, then so many bytes.
//!
//! A large request waits for its share of the common memory before it is read; small ones fit into the
//! connection's own buffer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use headwater_security::Reading;
use headwater_wire::ApiKey;
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use crate::Config;
use crate::broker::Shared;

/// Api key, version and correlation id.
pub const SHORTEST: usize = 8;
const LENGTH: usize = 4;
/// The longest request of a client that has not said who it is.
const STRANGERS: usize = 16 << 10;
/// The key of an API is looked at even where there is none.
const LEAST_TOKEN: usize = 2;
/// A request up to this size costs nothing of the common memory.
const SMALL: usize = 64 << 10;
/// What a request may grow to when it is decoded; the batches of a Produce request stay as they are.
const GROWTH: usize = 16;
/// Room for the start of a request of which nothing is known.
const LEAST: usize = 4 << 10;
/// Room that a read leaves unused tells that there is nothing more, without another system call.
const SPARE: usize = 64;
/// How far the buffer grows ahead of the bytes that are there.
const STEP: usize = 1 << 20;

#[derive(Debug, Error)]
pub enum FrameError {
    #[error("a request of {length} bytes, where {SHORTEST} to {longest} are allowed")]
    Length { length: i32, longest: usize },
    #[error("the connection ended within a request")]
    Truncated,
    #[error("a request did not arrive in time")]
    Late,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// One request without its length; the memory is given back with it.
#[derive(Debug)]
pub struct Frame {
    pub bytes: Bytes,
    pub memory: Option<OwnedSemaphorePermit>,
}

/// What is known of a request when its first bytes are there.
struct Wanted {
    size: usize,
    memory: usize,
}

pub struct FrameReader {
    stream: Reading,
    buffer: BytesMut,
    memory: Arc<Semaphore>,
    /// For the request that is arriving.
    permit: Option<OwnedSemaphorePermit>,
    /// When the connection is given up: it moves with each request that begins or ends.
    deadline: Instant,
    /// Rings at the deadline or before: it is set anew only when it has rung too early, or would ring too late.
    alarm: Pin<Box<Sleep>>,
    /// Room for a request like the last one, so that one read gets all of it.
    usual: usize,
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
    pub fn new(stream: Reading, shared: &Shared) -> Self {
        let deadline = Instant::now() + shared.config.max_idle;
        Self {
            stream,
            buffer: BytesMut::new(),
            memory: Arc::clone(&shared.request_memory),
            permit: None,
            deadline,
            alarm: Box::pin(sleep_until(deadline)),
            usual: LEAST,
            arriving: false,
            ended: false,
            limit: Limit::Known,
        }
    }

    pub fn limit(&mut self, limit: Limit) {
        self.limit = limit;
    }

    /// The next request; `None` at the end, or when none came for too long. Safe to cancel.
    pub async fn next(&mut self, config: &Config) -> Result<Option<Frame>, FrameError> {
        loop {
            if !self.buffer.is_empty() && !self.arriving {
                self.arriving = true;
                self.deadline = Instant::now() + config.transfer_timeout;
            }
            let wanted = self.wanted(config)?;
            if let Some(Wanted { size, memory }) = wanted {
                if size > SMALL && self.permit.is_none() {
                    let memory = Arc::clone(&self.memory).acquire_many_owned((memory >> 10) as u32);
                    let permit = timeout_at(self.deadline, memory).await.map_err(|_| FrameError::Late)?;
                    self.permit = permit.ok();
                }
                if self.buffer.len() >= LENGTH + size {
                    self.buffer.advance(LENGTH);
                    let bytes = self.buffer.split_to(size).freeze();
                    self.arriving = false;
                    self.usual = (LENGTH + size + SPARE).clamp(LEAST, SMALL);
                    self.deadline = Instant::now() + config.max_idle;
                    return Ok(Some(Frame { bytes, memory: self.permit.take() }));
                }
                self.buffer.reserve((LENGTH + size + SPARE - self.buffer.len()).min(STEP));
            } else {
                self.buffer.reserve(self.usual);
            }
            if self.ended {
                return if self.buffer.is_empty() { Ok(None) } else { Err(FrameError::Truncated) };
            }
            match self.read().await? {
                Some(read) => self.ended = read == 0,
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(FrameError::Late),
            }
        }
    }

    /// How many bytes came; `None` when none did in time.
    async fn read(&mut self) -> io::Result<Option<usize>> {
        if self.deadline < self.alarm.deadline() {
            self.alarm.as_mut().reset(self.deadline);
        }
        loop {
            tokio::select! {
                biased;
                read = self.stream.read_buf(&mut self.buffer) => return read.map(Some),
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
    fn wanted(&self, config: &Config) -> Result<Option<Wanted>, FrameError> {
        let Some(head) = self.buffer.first_chunk::<{ LENGTH + 2 }>() else { return Ok(None) };
        let length = i32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let is_produce = i16::from_be_bytes([head[4], head[5]]) == ApiKey::Produce as i16;
        let (shortest, longest) = match self.limit {
            Limit::Stranger => (SHORTEST, STRANGERS),
            Limit::Token => (LEAST_TOKEN, STRANGERS),
            Limit::Known if is_produce => (SHORTEST, config.max_request_bytes),
            Limit::Known => (SHORTEST, config.max_other_request_bytes),
        };
        let size = usize::try_from(length).ok().filter(|size| (shortest..=longest).contains(size));
        let size = size.ok_or(FrameError::Length { length, longest })?;
        let memory = if is_produce { size } else { size.saturating_mul(GROWTH) };
        Ok(Some(Wanted { size, memory: memory.min(config.request_memory()) }))
    }

    /// Returns when the other side has closed the connection; what it sends meanwhile is kept. Safe to cancel.
    pub async fn closed(&mut self) {
        while !self.ended {
            if self.buffer.len() >= SMALL {
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
    pub fn answered(&mut self, config: &Config) {
        if !self.arriving {
            self.deadline = Instant::now() + config.max_idle;
        }
    }
}
