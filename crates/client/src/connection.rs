//! One TCP connection: pipelined requests, answers matched by correlation id.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use headwater_security::rustls::pki_types::ServerName;
use headwater_security::{Reading, Stream, Writing};
use headwater_wire::messages::{ApiVersionsRequestData, ApiVersionsResponseData, ResponseHeaderData};
use headwater_wire::{ErrorCode, KafkaString, request_header_version, response_header_version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::call::Call;
use crate::cluster::Features;
use crate::security::Security;
use crate::{ClientError, authentication};

/// No response is believed to be longer than this.
const LONGEST_RESPONSE: usize = 256 << 20;
const SPEAKS_TLS: &str = "it speaks TLS, and this client does not; set security.protocol=SSL (or SASL_SSL) and ssl.truststore.location in the file of --command-config or HEADWATER_COMMAND_CONFIG";
const SPEAKS_HTTP: &str = "it speaks HTTP, as a registry or a console does; name the Kafka listener (127.0.0.1:9092 unless told otherwise): --bootstrap, HEADWATER_BOOTSTRAP";

pub struct Connection {
    address: String,
    client_id: String,
    versions: HashMap<i16, (i16, i16)>,
    /// As of when it was opened.
    features: Features,
    outgoing: mpsc::UnboundedSender<Bytes>,
    waiting: Arc<Waiting>,
    next_id: AtomicI32,
    /// KIP-368: then the client must say again who it is, for which it opens another connection.
    fresh_until: Option<Instant>,
}

/// What a connection is opened with.
pub struct Opening<'a> {
    pub address: &'a str,
    pub client_id: &'a str,
    pub security: &'a Security,
    pub timeout: Duration,
}

async fn connect(address: &str, security: &Security) -> Result<Stream, ClientError> {
    let lost = |error: io::Error| ClientError::lost(address, &error);
    let stream = TcpStream::connect(address).await.map_err(lost)?;
    stream.set_nodelay(true).map_err(lost)?;
    let Some(connector) = security.connector() else { return Ok(Stream::Plain(stream)) };
    let refused = |reason: String| ClientError::Tls { address: address.to_owned(), reason };
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).map_err(|error| refused(error.to_string()))?;
    match connector.connect(name, stream).await {
        Ok(stream) => Ok(Stream::tls(stream)),
        // A broker that goes down in between looks otherwise.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(refused(error.to_string())),
        Err(error) => Err(lost(error)),
    }
}

/// Why a connection is gone.
#[derive(Debug, Clone)]
enum Gone {
    Lost(String),
    /// Whoever answers there speaks something else: what, and what to do. Trying again does not help.
    Foreign(&'static str),
}

impl Gone {
    fn error(self, address: &str) -> ClientError {
        let address = address.to_owned();
        match self {
            Self::Lost(reason) => ClientError::Disconnected { address, reason },
            Self::Foreign(reason) => ClientError::Malformed { address, reason: reason.to_owned() },
        }
    }

    /// By the first bytes, which should have been a length.
    fn by_length(first: [u8; 4]) -> Self {
        match first {
            // A record of TLS: an alert or a handshake, of any version.
            [0x15 | 0x16, 0x03, 0x00..=0x04, _] => Self::Foreign(SPEAKS_TLS),
            [b'H', b'T', b'T', b'P'] => Self::Foreign(SPEAKS_HTTP),
            other => Self::Lost(format!("a response of {} bytes", i32::from_be_bytes(other))),
        }
    }
}

/// Who waits for which answer; the reason once the connection is gone.
struct Waiting {
    state: Mutex<Result<HashMap<i32, oneshot::Sender<Bytes>>, Gone>>,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Result<HashMap<i32, oneshot::Sender<Bytes>>, Gone>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, reason: Gone) {
        let mut state = self.lock();
        if state.is_ok() {
            *state = Err(reason);
        }
    }
}

impl Connection {
    /// Connects, learns which versions the broker speaks, and says who the client is.
    pub async fn open(opening: Opening<'_>) -> Result<Self, ClientError> {
        let Opening { address, client_id, security, timeout } = opening;
        let late = || ClientError::Timeout { what: "connect", address: address.to_owned(), after: timeout };
        let stream =
            tokio::time::timeout(timeout, connect(address, security)).await.map_err(|_| late())??;
        let (read, write) = stream.into_split();
        let (outgoing, queue) = mpsc::unbounded_channel();
        let waiting = Arc::new(Waiting { state: Mutex::new(Ok(HashMap::new())) });
        tokio::spawn(send(write, queue, Arc::clone(&waiting)));
        tokio::spawn(receive(read, Arc::clone(&waiting)));
        let mut connection = Self {
            address: address.to_owned(),
            client_id: client_id.to_owned(),
            versions: HashMap::new(),
            features: Features::default(),
            outgoing,
            waiting,
            next_id: AtomicI32::new(0),
            fresh_until: None,
        };
        let offered = connection.ask_versions(timeout).await?;
        connection.versions =
            offered.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        connection.features = Features::of(&offered);
        if let Some(sasl) = security.sasl() {
            connection.fresh_until = authentication::authenticate(&connection, sasl, timeout).await?;
        }
        Ok(connection)
    }

    async fn ask_versions(&self, timeout: Duration) -> Result<ApiVersionsResponseData, ClientError> {
        let request = ApiVersionsRequestData::default()
            .with_client_software_name(KafkaString::from_static("headwater"))
            .with_client_software_version(KafkaString::from_static(env!("CARGO_PKG_VERSION")));
        let mut body = self.exchange(&request, 3, timeout)?.await?;
        // A broker that does not know this version answers in version 0.
        if body.len() >= 2 && i16::from_be_bytes([body[0], body[1]]) == ErrorCode::UnsupportedVersion.code() {
            body = self.exchange(&request, 0, timeout)?.await?;
            return ApiVersionsRequestData::decode(&mut body, 0)
                .map_err(|e| ClientError::malformed(&self.address, &e));
        }
        ApiVersionsRequestData::decode(&mut body, 3).map_err(|e| ClientError::malformed(&self.address, &e))
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Whether something new may be asked here: the connection is there, and its session lasts.
    pub fn is_alive(&self) -> bool {
        self.fresh_until.is_none_or(|until| Instant::now() < until) && self.waiting.lock().is_ok()
    }

    fn version_of<C: Call>(&self) -> Result<i16, ClientError> {
        let too_old = || ClientError::TooOld { address: self.address.clone(), api: C::NAME };
        let &(oldest, newest) = self.versions.get(&(C::KEY as i16)).ok_or_else(too_old)?;
        let version = newest.min(C::NEWEST);
        if version < oldest.max(C::OLDEST) {
            return Err(too_old());
        }
        Ok(version)
    }

    /// Sends now, in the order of calls; the future waits for the answer.
    pub fn start<C: Call>(
        &self,
        request: &C,
        timeout: Duration,
    ) -> Result<impl Future<Output = Result<C::Response, ClientError>> + use<C>, ClientError> {
        let version = self.version_of::<C>()?;
        let answer = self.exchange(request, version, timeout)?;
        let address = self.address.clone();
        Ok(async move {
            let mut body = answer.await?;
            C::decode(&mut body, version).map_err(|error| ClientError::malformed(&address, &error))
        })
    }

    pub async fn call<C: Call>(&self, request: &C, timeout: Duration) -> Result<C::Response, ClientError> {
        self.start(request, timeout)?.await
    }

    fn exchange<C: Call>(
        &self,
        request: &C,
        version: i16,
        timeout: Duration,
    ) -> Result<impl Future<Output = Result<Bytes, ClientError>> + use<C>, ClientError> {
        let key = C::KEY as i16;
        tracing::trace!(client_id = self.client_id, address = self.address, api = C::NAME, version, "asks");
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        frame.put_i16(key);
        frame.put_i16(version);
        frame.put_i32(id);
        frame.put_i16(self.client_id.len().min(i16::MAX as usize) as i16);
        frame.put_slice(&self.client_id.as_bytes()[..self.client_id.len().min(i16::MAX as usize)]);
        if request_header_version(key, version) == 2 {
            frame.put_u8(0);
        }
        request.encode(&mut frame, version).map_err(|error| ClientError::malformed(&self.address, &error))?;
        let length = (frame.len() - 4) as i32;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        let (answered, answer) = oneshot::channel();
        match &mut *self.waiting.lock() {
            Ok(waiting) => waiting.insert(id, answered),
            Err(gone) => return Err(gone.clone().error(&self.address)),
        };
        // A closed queue shows in the answer, which is dropped with the connection's state.
        let _ = self.outgoing.send(frame.freeze());
        let (address, waiting) = (self.address.clone(), Arc::clone(&self.waiting));
        let header_version = response_header_version(key, version);
        Ok(async move {
            match tokio::time::timeout(timeout, answer).await {
                Ok(Ok(mut body)) => {
                    let malformed = |e: &headwater_wire::ProtocolError| ClientError::malformed(&address, e);
                    ResponseHeaderData::read(&mut body, header_version).map_err(|error| malformed(&error))?;
                    Ok(body)
                }
                Ok(Err(_)) => {
                    let gone = waiting.lock().as_ref().err().cloned();
                    Err(gone.unwrap_or(Gone::Lost(String::new())).error(&address))
                }
                Err(_) => {
                    // Whatever comes after a lost answer cannot be trusted to come in time either.
                    waiting.close(Gone::Lost(format!("{} was not answered in time", C::NAME)));
                    Err(ClientError::Timeout { what: C::NAME, address, after: timeout })
                }
            }
        })
    }
}

async fn send(mut to: Writing, mut queue: mpsc::UnboundedReceiver<Bytes>, waiting: Arc<Waiting>) {
    while let Some(frame) = queue.recv().await {
        let sent = async {
            to.write_all(&frame).await?;
            // TLS keeps what the socket did not take at once.
            if queue.is_empty() { to.flush().await } else { Ok(()) }
        };
        if let Err(error) = sent.await {
            waiting.close(Gone::Lost(error.to_string()));
            return;
        }
    }
}

async fn receive(mut from: Reading, waiting: Arc<Waiting>) {
    let mut buffer = BytesMut::with_capacity(64 << 10);
    let reason = loop {
        if buffer.len() >= 4 {
            let first = [buffer[0], buffer[1], buffer[2], buffer[3]];
            let length = usize::try_from(i32::from_be_bytes(first)).ok();
            let Some(length) = length.filter(|length| (4..=LONGEST_RESPONSE).contains(length)) else {
                break Gone::by_length(first);
            };
            if buffer.len() >= 4 + length {
                buffer.advance(4);
                let frame = buffer.split_to(length).freeze();
                let id = i32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
                let waiter = match &mut *waiting.lock() {
                    Ok(waiters) => waiters.remove(&id),
                    Err(_) => return,
                };
                match waiter {
                    // The caller may have gone; its answer is nobody's.
                    Some(waiter) => drop(waiter.send(frame)),
                    None => break Gone::Lost(format!("an answer to request {id}, which was not asked")),
                }
                continue;
            }
            let missing = 4 + length - buffer.len();
            buffer.reserve(missing.min(1 << 20));
        }
        match from.read_buf(&mut buffer).await {
            Ok(0) => break Gone::Lost("closed by the broker".to_owned()),
            Ok(_) => {}
            Err(error) => break Gone::Lost(error.to_string()),
        }
    };
    waiting.close(reason);
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What a client says of a server that answers its first request with `answer`.
    async fn told(answer: &'static [u8]) -> ClientError {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 16];
            stream.read_exact(&mut request).await.unwrap();
            stream.write_all(answer).await.unwrap();
        });
        let security = Security::default();
        let timeout = Duration::from_secs(10);
        let opened =
            Connection::open(Opening { address: &address, client_id: "test", security: &security, timeout });
        opened.await.map(|_| ()).unwrap_err()
    }

    #[tokio::test]
    async fn a_server_of_another_protocol_is_named() {
        let tls = told(b"\x15\x03\x03\x00\x02\x02\x46").await;
        assert!(tls.to_string().contains("speaks TLS") && !tls.is_retriable(), "{tls}");
        let http = told(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        assert!(http.to_string().contains("speaks HTTP") && !http.is_retriable(), "{http}");
        let other = told(b"SSH-2.0-OpenSSH").await;
        assert!(other.to_string().contains("bytes") && other.is_retriable(), "{other}");
    }
}
