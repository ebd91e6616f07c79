//! One connection: requests are served one after the other, answers leave in the order of the requests.
//!
//! Produce alone does not wait for its turn to end: the next request is read while the disk syncs, so that a
//! producer with several requests in flight gets them into one commit. Whatever is wrong with a request ends
//! this connection and no other.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::slice;
use std::sync::Arc;
use std::task::{Context, Poll};

use headwater_model::Principal;
use headwater_wire::messages::RequestHeaderData;
use headwater_wire::request_header_version;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;

use crate::api::{self, Api, Call, CallError, Serving};
use crate::broker::Shared;
use crate::frame::{Frame, FrameError, FrameReader};
use crate::outgoing::Outgoing;
use crate::sending::{self, SendError};

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
    Send(#[from] SendError),
    #[error("the broker stops")]
    Stopped,
    #[error("the client has gone")]
    Gone,
}

impl Ended {
    /// Whether someone should look at it: clients come and go, but they do not send nonsense.
    fn is_notable(&self) -> bool {
        !matches!(
            self,
            Self::Send(SendError::Socket(_)) | Self::Stopped | Self::Gone | Self::Frame(FrameError::Io(_))
        )
    }
}

/// A Produce request that waits for the disk.
struct Pending {
    serving: Serving,
    _memory: Option<OwnedSemaphorePermit>,
}

struct Connection {
    shared: Arc<Shared>,
    principal: Arc<Principal>,
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
    let principal = Arc::new(Principal::anonymous());
    let mut connection =
        Connection { shared, principal, peer, local, reader, writer, pending: VecDeque::new(), stop };
    if let Err(ended) = connection.run().await {
        match ended.is_notable() {
            true => tracing::warn!(%peer, reason = %ended, "connection closed"),
            false => tracing::debug!(%peer, reason = %ended, "connection closed"),
        }
    }
    api::hang_up(&connection.shared, peer, local);
}

/// Answers that are ready, and what ended the connection after them.
#[derive(Default)]
struct Ready {
    answers: Vec<Outgoing>,
    failed: Option<CallError>,
}

/// Waits for the first and takes what is ready after it, so that one commit's answers leave together. Never ends
/// when nothing is pending.
async fn ready(pending: &mut VecDeque<Pending>) -> Ready {
    poll_fn(|context| poll_ready(pending, context)).await
}

fn poll_ready(pending: &mut VecDeque<Pending>, context: &mut Context<'_>) -> Poll<Ready> {
    let mut ready = Ready::default();
    let mut any = false;
    while ready.failed.is_none()
        && let Some(first) = pending.front_mut()
        && let Poll::Ready(answer) = first.serving.as_mut().poll(context)
    {
        pending.pop_front();
        any = true;
        match answer {
            Ok(answer) => ready.answers.extend(answer),
            Err(error) => ready.failed = Some(error),
        }
    }
    if any { Poll::Ready(ready) } else { Poll::Pending }
}

impl Connection {
    async fn run(&mut self) -> Result<(), Ended> {
        loop {
            tokio::select! {
                biased;
                _ = self.stop.changed() => return self.drain().await,
                ready = ready(&mut self.pending) => self.answer(ready).await?,
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
        while !self.pending.is_empty() {
            let ready = ready(&mut self.pending).await;
            self.answer(ready).await?;
        }
        Ok(())
    }

    async fn answer(&mut self, ready: Ready) -> Result<(), Ended> {
        self.write(&ready.answers).await?;
        ready.failed.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn accept(&mut self, frame: Frame) -> Result<(), Ended> {
        let (api, call, body) = match self.understand(&frame) {
            Ok(understood) => understood,
            Err(error) => {
                self.drain().await?;
                return self.write(slice::from_ref(&api::answer_unknown_version(error)?)).await;
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
            biased;
            answer = &mut serving => answer?,
            () = self.reader.closed() => return Err(Ended::Gone),
            _ = self.stop.changed() => return Err(Ended::Stopped),
        };
        self.write(answer.as_slice()).await
    }

    fn understand(&self, frame: &Frame) -> Result<(&'static Api, Call, bytes::Bytes), CallError> {
        let mut body = frame.bytes.clone();
        let (key, version, correlation_id) = api::peek(&body)?;
        let api = api::find(key, version, correlation_id)?;
        let header = RequestHeaderData::read(&mut body, request_header_version(key, version));
        let header = header.map_err(|error| CallError::Decode { key, version, error })?;
        let (shared, client_id) = (Arc::clone(&self.shared), header.client_id);
        let (principal, peer, local) = (Arc::clone(&self.principal), self.peer, self.local);
        Ok((api, Call { shared, key, version, correlation_id, client_id, principal, peer, local }, body))
    }

    async fn write(&mut self, answers: &[Outgoing]) -> Result<(), Ended> {
        self.reader.answered(&self.shared.config);
        let sending = sending::send(&mut self.writer, answers);
        timeout(self.shared.config.transfer_timeout, sending).await.map_err(|_| Ended::Unread)??;
        Ok(())
    }
}
