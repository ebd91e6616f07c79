//! One connection: requests are served one after the other, answers leave in the order of the requests.
//!
//! Produce alone does not wait for its turn to end: the next request is read while the disk syncs, so that a
//! producer with several requests in flight gets them into one commit. Whatever is wrong with a request ends
//! this connection and no other.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use headwater_coordinator::Client;
use headwater_wire::messages::RequestHeaderData;
use headwater_wire::request_header_version;
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;

use crate::api::{self, Api, Call, CallError, Outgoing, Serving};
use crate::broker::Shared;
use crate::frame::{Frame, FrameError, FrameReader};

/// How many Produce requests of one connection wait for the disk at once.
const PIPELINED: usize = 32;

#[derive(Debug, Error)]
enum Ended {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("a response was not read in time")]
    Unread,
    #[error(transparent)]
    Write(std::io::Error),
    #[error("the broker stops")]
    Stopped,
    #[error("the client has gone")]
    Gone,
}

impl Ended {
    /// Whether someone should look at it: clients come and go, but they do not send nonsense.
    fn is_notable(&self) -> bool {
        !matches!(self, Self::Write(_) | Self::Stopped | Self::Gone | Self::Frame(FrameError::Io(_)))
    }
}

/// A Produce request that waits for the disk.
struct Pending {
    serving: Serving,
    _memory: Option<OwnedSemaphorePermit>,
}

struct Connection {
    shared: Arc<Shared>,
    peer: SocketAddr,
    local: SocketAddr,
    reader: FrameReader,
    writer: OwnedWriteHalf,
    pending: VecDeque<Pending>,
    stop: watch::Receiver<bool>,
}

pub async fn serve(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>, stop: watch::Receiver<bool>) {
    let prepared = stream.set_nodelay(true).and_then(|()| stream.local_addr());
    let Ok(local) = prepared else { return };
    let (read, writer) = stream.into_split();
    let reader = FrameReader::new(read, &shared);
    let mut connection = Connection { shared, peer, local, reader, writer, pending: VecDeque::new(), stop };
    if let Err(ended) = connection.run().await {
        match ended.is_notable() {
            true => tracing::warn!(%peer, reason = %ended, "connection closed"),
            false => tracing::debug!(%peer, reason = %ended, "connection closed"),
        }
    }
}

/// Never ends when nothing is pending.
async fn first(pending: &mut VecDeque<Pending>) -> Result<Option<Outgoing>, CallError> {
    match pending.front_mut() {
        Some(pending) => pending.serving.as_mut().await,
        None => std::future::pending().await,
    }
}

impl Connection {
    async fn run(&mut self) -> Result<(), Ended> {
        loop {
            tokio::select! {
                biased;
                _ = self.stop.changed() => return self.drain().await,
                answer = first(&mut self.pending) => {
                    self.pending.pop_front();
                    self.write(answer?).await?;
                }
                frame = self.reader.next(&self.shared.config), if self.pending.len() < PIPELINED => {
                    match frame {
                        Ok(Some(frame)) => self.accept(frame).await?,
                        Ok(None) => return self.drain().await,
                        Err(error) => {
                            self.drain().await?;
                            return Err(error.into());
                        }
                    }
                }
            }
        }
    }

    /// Answers what was accepted.
    async fn drain(&mut self) -> Result<(), Ended> {
        while let Some(mut pending) = self.pending.pop_front() {
            let answer = pending.serving.as_mut().await?;
            self.write(answer).await?;
        }
        Ok(())
    }

    async fn accept(&mut self, frame: Frame) -> Result<(), Ended> {
        let (api, call, body) = match self.understand(&frame) {
            Ok(understood) => understood,
            Err(error) => {
                self.drain().await?;
                return self.write(Some(api::answer_unknown_version(error)?)).await;
            }
        };
        if api.pipelined {
            let serving = (api.serve)(call, body);
            self.pending.push_back(Pending { serving, _memory: frame.memory });
            return Ok(());
        }
        self.drain().await?;
        let mut serving = (api.serve)(call, body);
        let answer = tokio::select! {
            answer = &mut serving => answer?,
            () = self.reader.closed() => return Err(Ended::Gone),
            _ = self.stop.changed() => return Err(Ended::Stopped),
        };
        self.write(answer).await
    }

    fn understand(&self, frame: &Frame) -> Result<(&'static Api, Call, bytes::Bytes), CallError> {
        let mut body = frame.bytes.clone();
        let (key, version, correlation_id) = api::peek(&body)?;
        let api = api::find(key, version, correlation_id)?;
        let header = RequestHeaderData::read(&mut body, request_header_version(key, version));
        let header = header.map_err(|error| CallError::Decode { key, version, error })?;
        let client = Client {
            id: header.client_id.map_or_else(String::new, |id| id.as_str().to_owned()),
            host: format!("/{}", self.peer.ip().to_canonical()),
        };
        let shared = Arc::clone(&self.shared);
        Ok((api, Call { shared, key, version, correlation_id, client, local: self.local }, body))
    }

    async fn write(&mut self, outgoing: Option<Outgoing>) -> Result<(), Ended> {
        self.reader.answered(&self.shared.config);
        let Some(Outgoing { frame, memory }) = outgoing else { return Ok(()) };
        let written = timeout(self.shared.config.transfer_timeout, self.writer.write_all(&frame)).await;
        drop(memory);
        written.map_err(|_| Ended::Unread)?.map_err(Ended::Write)
    }
}
