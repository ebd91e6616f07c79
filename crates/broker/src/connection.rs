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
use std::time::Duration;

use headwater_model::Principal;
use headwater_security::Writing;
use headwater_wire::messages::RequestHeaderData;
use headwater_wire::{ApiKey, request_header_version};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::api::{self, Api, Call, CallError, Serving};
use crate::broker::Shared;
use crate::frame::{Frame, FrameError, FrameReader, Limit};
use crate::memory::{FREE, Memory, Share};
use crate::outgoing::Outgoing;
use crate::quota::Mute;
use crate::security::{FAILED, Listener, Session, Stranger};
use crate::sending::{self, SendError};
use crate::usage::Memo;

/// How many Produce requests of one connection wait for the disk at once: what librdkafka keeps on its way, so that a
/// commit takes all of it, and what lies together in the log is longer for who reads it.
const PIPELINED: usize = 128;
/// A request that is being served is not slow until then: consumers wait for records.
const LONG_POLL: Duration = Duration::from_secs(10);

#[derive(Debug, Error)]
enum Ended {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("a request or its response took so long that others waited for the memory it takes")]
    Slow,
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("the broker stops")]
    Stopped,
    #[error("the client has gone")]
    Gone,
    #[error("the TLS handshake failed: {0}; does the client speak TLS, and trust the certificate?")]
    Handshake(std::io::Error),
    #[error("{0}")]
    Unmapped(std::io::Error),
    #[error("a request of API {0} before the client has said who it is")]
    Stranger(i16),
    #[error("the client did not say who it is in time")]
    Late,
    #[error("too many clients have not said who they are, and this one has not for the longest")]
    Displaced,
    #[error("{FAILED}")]
    Denied,
    #[error("the client went on after the time in which it had to authenticate again")]
    Expired,
}

impl Ended {
    fn securing(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => Self::Unmapped(error),
            _ => Self::Handshake(error),
        }
    }

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
    memory: Share,
}

struct Connection {
    shared: Arc<Shared>,
    listener: Arc<Listener>,
    principal: Arc<Principal>,
    mute: Arc<Mute>,
    memo: Arc<Memo>,
    /// On a listener with SASL.
    session: Option<Session>,
    peer: SocketAddr,
    local: SocketAddr,
    reader: FrameReader,
    writer: Writing,
    pending: VecDeque<Pending>,
    stop: watch::Receiver<bool>,
}

/// A socket that was accepted, with its place among those of clients that have not said who they are.
pub struct Arrived {
    pub stream: TcpStream,
    pub peer: SocketAddr,
    pub listener: Arc<Listener>,
    pub stranger: Option<Stranger>,
}

pub async fn serve(arrived: Arrived, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let peer = arrived.peer;
    // The parts of this process come from the address of every client of this machine.
    let wait = if arrived.listener.is_internal() { None } else { shared.quotas.connecting(peer.ip()) };
    if let Some(wait) = wait {
        tokio::select! {
            () = sleep(wait) => tracing::debug!(%peer, ?wait, "connection closed: too many from its address"),
            _ = stop.changed() => {}
        }
        return;
    }
    if let Err(ended) = converse(arrived, shared, stop).await {
        match ended.is_notable() {
            true => tracing::warn!(%peer, reason = %ended, "connection closed"),
            false => tracing::debug!(%peer, reason = %ended, "connection closed"),
        }
    }
}

/// From TLS and SASL, which together have a limited time, to the last request.
async fn converse(
    arrived: Arrived,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Ended> {
    let Arrived { stream, peer, listener, stranger } = arrived;
    let prepared = stream.set_nodelay(true).and_then(|()| stream.local_addr());
    let Ok(local) = prepared else { return Ok(()) };
    let deadline = Instant::now() + shared.config.security.authentication_timeout;
    let (stream, principal) = tokio::select! {
        secured = timeout_at(deadline, listener.secure(stream)) => {
            secured.map_err(|_| Ended::Late)?.map_err(Ended::securing)?
        }
        () = Stranger::displaced(stranger.as_ref()) => return Err(Ended::Displaced),
        _ = stop.changed() => return Err(Ended::Stopped),
    };
    let (read, writer) = stream.into_split();
    let reader = FrameReader::new(read, Arc::clone(&shared));
    let has_sasl = listener.protocol.is_sasl();
    let session = has_sasl.then(|| Session::new(Arc::clone(&shared.authority), Arc::clone(&listener)));
    let (principal, pending) = (Arc::new(principal), VecDeque::new());
    let mut connection = Connection {
        shared,
        listener,
        principal,
        mute: Arc::default(),
        memo: Arc::default(),
        session,
        peer,
        local,
        reader,
        writer,
        pending,
        stop,
    };
    if has_sasl {
        tokio::select! {
            proved = timeout_at(deadline, connection.authenticate()) => proved.map_err(|_| Ended::Late)??,
            () = Stranger::displaced(stranger.as_ref()) => return Err(Ended::Displaced),
        }
    }
    drop(stranger);
    let shared = Arc::clone(&connection.shared);
    let ended = connection.run().await;
    api::hang_up(&shared, peer, local);
    ended
}

/// Answers that are ready, and what ended the connection after them.
#[derive(Default)]
struct Ready {
    answers: Vec<Outgoing>,
    /// The requests' shares of the memory, which are as good for their answers.
    memory: Vec<Share>,
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
        ready.memory.extend(pending.pop_front().map(|first| first.memory).filter(|share| !share.is_empty()));
        any = true;
        match answer {
            Ok(answer) => ready.answers.extend(answer),
            Err(error) => ready.failed = Some(error),
        }
    }
    if any { Poll::Ready(ready) } else { Poll::Pending }
}

/// The next request; of a mute channel only its end.
async fn heard(reader: &mut FrameReader, mute: bool) -> Result<Option<Frame>, FrameError> {
    if mute {
        reader.closed().await;
        return Ok(None);
    }
    reader.next().await
}

fn is_sasl(key: i16) -> bool {
    key == ApiKey::SaslHandshake as i16 || key == ApiKey::SaslAuthenticate as i16
}

impl Connection {
    async fn run(&mut self) -> Result<(), Ended> {
        // As in Kafka, who is mute for longer than a connection may be idle has to come again: else one that has gone, and
        // has left something unread, would keep its place for as long as a quota says.
        let idle = self.shared.config.max_idle;
        loop {
            let mute = self.mute.left(self.shared.quotas.now());
            let listens = mute.is_some() || self.pending.len() < PIPELINED;
            tokio::select! {
                biased;
                _ = self.stop.changed() => return self.drain().await,
                ready = ready(&mut self.pending) => self.answer(ready).await?,
                () = sleep(mute.unwrap_or_default().min(idle)), if mute.is_some() => {
                    if mute.is_some_and(|mute| mute > idle) {
                        return self.drain().await;
                    }
                }
                frame = heard(&mut self.reader, mute.is_some()), if listens => {
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

    /// Serves ApiVersions, which come first, and what belongs to SASL until the client has proved who it is.
    async fn authenticate(&mut self) -> Result<(), Ended> {
        self.reader.limit(Limit::Stranger);
        while self.session.as_ref().is_some_and(|session| session.principal().is_none()) {
            let raw = self.session.as_ref().is_some_and(Session::is_raw);
            self.reader.limit(if raw { Limit::Token } else { Limit::Stranger });
            let frame = tokio::select! {
                frame = self.reader.next() => frame?.ok_or(Ended::Gone)?,
                _ = self.stop.changed() => return Err(Ended::Stopped),
            };
            if raw {
                self.take_token(&frame).await?;
                continue;
            }
            let (key, ..) = api::peek(&frame.bytes)?;
            if !is_sasl(key) && key != ApiKey::ApiVersions as i16 {
                return Err(Ended::Stranger(key));
            }
            self.accept(frame).await?;
        }
        self.reader.limit(Limit::Known);
        Ok(())
    }

    /// A token that came without a request around it, and is answered so.
    async fn take_token(&mut self, frame: &Frame) -> Result<(), Ended> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let answered = session.authenticate(&frame.bytes).await.map_err(|_| Ended::Denied)?;
        self.learn();
        let answer = Outgoing::raw(&answered.message).seal().ok_or(Ended::Denied)?;
        self.write(slice::from_ref(&answer), false).await
    }

    /// Serves SaslHandshake and SaslAuthenticate, also of a client that is known and must say so again.
    async fn prove(&mut self, call: &Call, body: bytes::Bytes) -> Result<(), Ended> {
        self.drain().await?;
        let Some(session) = &mut self.session else { return Ok(()) };
        let answered = api::authenticate(call, body, session).await?;
        self.learn();
        self.write(slice::from_ref(&answered.outgoing), false).await?;
        if answered.ends { Err(Ended::Denied) } else { Ok(()) }
    }

    fn learn(&mut self) {
        if let Some(principal) = self.session.as_ref().and_then(Session::principal) {
            self.principal = Arc::clone(principal);
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
        self.write(&ready.answers, !ready.memory.is_empty()).await?;
        ready.failed.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn accept(&mut self, frame: Frame) -> Result<(), Ended> {
        let (api, call, body) = match self.understand(&frame) {
            Ok(understood) => understood,
            Err(error) => {
                self.drain().await?;
                return self.write(slice::from_ref(&api::answer_unknown_version(error)?), false).await;
            }
        };
        if let Some(session) = &self.session {
            if is_sasl(call.key) {
                return self.prove(&call, body).await;
            }
            // Nothing but ApiVersions comes so far.
            if session.is_agreed() {
                let answer = api::amid_sasl(&call)?;
                self.write(slice::from_ref(&answer), false).await?;
                return Err(Ended::Stranger(call.key));
            }
            if session.has_expired() {
                self.drain().await?;
                return Err(Ended::Expired);
            }
        }
        if api.pipelined {
            let serving = (api.serve)(call, body);
            self.pending.push_back(Pending { serving, memory: frame.memory });
            return Ok(());
        }
        self.drain().await?;
        let Frame { bytes, memory } = frame;
        drop(bytes);
        let mut serving = (api.serve)(call, body);
        let answer = tokio::select! {
            biased;
            answer = &mut serving => answer?,
            () = self.reader.closed() => return Err(Ended::Gone),
            _ = self.stop.changed() => return Err(Ended::Stopped),
            () = given_up(&self.shared.memory, !memory.is_empty(), LONG_POLL) => return Err(Ended::Slow),
        };
        drop(serving);
        let memory = share(&self.shared.memory, memory, answer.as_ref().map_or(0, Outgoing::in_memory)).await;
        self.write(answer.as_slice(), !memory.is_empty()).await
    }

    fn understand(&self, frame: &Frame) -> Result<(&'static Api, Call, bytes::Bytes), CallError> {
        let mut body = frame.bytes.clone();
        let (key, version, correlation_id) = api::peek(&body)?;
        let api = api::find(key, version, correlation_id)?;
        let header = RequestHeaderData::read(&mut body, request_header_version(key, version));
        let header = header.map_err(|error| CallError::Decode { key, version, error })?;
        let (shared, client_id) = (Arc::clone(&self.shared), header.client_id);
        let (listener, principal) = (Arc::clone(&self.listener), Arc::clone(&self.principal));
        let (peer, local) = (self.peer, self.local);
        let (mute, memo) = (Arc::clone(&self.mute), Arc::clone(&self.memo));
        let call = Call {
            shared,
            key,
            version,
            correlation_id,
            client_id,
            listener,
            principal,
            peer,
            local,
            mute,
            memo,
        };
        Ok((api, call, body))
    }

    /// `shared` tells that others may come to wait for the memory of these answers.
    async fn write(&mut self, answers: &[Outgoing], shared: bool) -> Result<(), Ended> {
        let shared = shared || !self.pending.is_empty();
        let patience = self.shared.config.transfer_timeout;
        let sending = sending::send(&mut self.writer, answers, patience);
        tokio::select! {
            biased;
            sent = sending => sent?,
            () = given_up(&self.shared.memory, shared, Duration::ZERO) => return Err(Ended::Slow),
            () = stopping_for(&self.stop, patience) => return Err(Ended::Stopped),
        }
        // Who took long to read it has as long as others to ask for more.
        self.reader.answered();
        Ok(())
    }
}

/// Returns when the broker has been stopping for so long: nobody who reads slowly keeps it from its end.
async fn stopping_for(stop: &watch::Receiver<bool>, patience: Duration) {
    // A receiver of its own, as the connection's has yet to tell what it has not told.
    let mut stop = stop.clone();
    // Without a sender nobody stops it any more but by dropping it.
    drop(stop.wait_for(|stops| *stops).await);
    sleep(patience).await;
}

/// Returns when others need the memory; never when none is held. It is asked for only if it must be waited for.
async fn given_up(memory: &Arc<Memory>, held: bool, patience: Duration) {
    match held {
        true => memory.transfer(patience).given_up().await,
        false => std::future::pending().await,
    }
}

/// What an answer of so many bytes takes of the memory, after what its request took.
async fn share(memory: &Memory, mut share: Share, answer: usize) -> Share {
    match answer {
        0..=FREE => share.shrink(0),
        _ => {
            share.shrink(answer);
            memory.extend(&mut share, answer).await;
        }
    }
    share
}
