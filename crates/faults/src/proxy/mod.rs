//! A proxy that knows where Kafka's messages begin and end, and does to whole messages what networks do to bytes.
//!
//! Clients reach the broker through it alone (`advertised.listeners`), so it may answer for a broker that is away. A
//! request can lose its answer, arrive twice, or arrive late: after its sender has given up, asked again over another
//! connection, and gone on. Nothing is invented: every frame that reaches the broker was written by a client.

mod capture;
mod frames;
mod mischief;
mod pump;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use capture::Capture;
pub use frames::Keys;
pub use mischief::{Fate, Mischief};

/// What it has done, by kind.
#[derive(Debug, Default)]
pub struct Done {
    pub forwarded: AtomicUsize,
    pub answers_cut: AtomicUsize,
    /// Requests that arrived late, once or once more.
    pub late: AtomicUsize,
    /// Of those, what the broker answered, with an error or not.
    pub late_answered: AtomicUsize,
    pub delayed: AtomicUsize,
    pub connections: AtomicUsize,
}

impl Done {
    fn add(counter: &AtomicUsize) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

struct Inner {
    /// A port that was free: the broker's, over all its restarts.
    backend: SocketAddr,
    mischief: Mutex<Mischief>,
    random: Mutex<SmallRng>,
    /// Changes when every connection is to be cut.
    cut: watch::Sender<u64>,
    done: Done,
    capture: Option<Capture>,
}

impl Inner {
    /// What becomes of a request of this API.
    fn fate(&self, key: i16) -> Fate {
        let mischief = self.mischief.lock().unwrap_or_else(PoisonError::into_inner);
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        mischief.fate(key, &mut *random)
    }
}

pub struct Proxy {
    inner: Arc<Inner>,
    pub address: String,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port, for a broker that has [`Self::settings`].
    pub async fn open(seed: u64, capture: Option<Capture>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("the proxy's port")?;
        let address = listener.local_addr()?.to_string();
        let inner = Arc::new(Inner {
            backend: std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?,
            mischief: Mutex::new(Mischief::default()),
            random: Mutex::new(SmallRng::seed_from_u64(seed)),
            cut: watch::Sender::new(0),
            done: Done::default(),
            capture,
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&inner)));
        Ok(Self { inner, address, accepting })
    }

    /// Settings of a broker that has a listener behind this proxy, beside the one for those who know it.
    pub fn settings(&self) -> Vec<(String, String)> {
        let listeners = format!("PLAINTEXT://127.0.0.1:0,PROXIED://{}", self.inner.backend);
        let settings = [
            ("listeners", listeners),
            ("listener.security.protocol.map", "PROXIED:PLAINTEXT".to_owned()),
            ("advertised.listeners", format!("PROXIED://{}", self.address)),
        ];
        settings.map(|(key, value)| (key.to_owned(), value)).to_vec()
    }

    pub fn behave(&self, mischief: Mischief) {
        *self.inner.mischief.lock().unwrap_or_else(PoisonError::into_inner) = mischief;
    }

    /// Cuts every connection there is.
    pub fn cut(&self) {
        self.inner.cut.send_modify(|times| *times += 1);
    }

    pub fn done(&self) -> &Done {
        &self.inner.done
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, inner: Arc<Inner>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of descriptors: those of others come back.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        Done::add(&inner.done.connections);
        let inner = Arc::clone(&inner);
        tokio::spawn(async move {
            let mut cut = inner.cut.subscribe();
            cut.mark_unchanged();
            let Ok(broker) = TcpStream::connect(inner.backend).await else { return };
            let _ = (client.set_nodelay(true), broker.set_nodelay(true));
            tokio::select! {
                () = pump::serve(client, broker, &inner) => {}
                _ = cut.changed() => {}
            }
        });
    }
}
