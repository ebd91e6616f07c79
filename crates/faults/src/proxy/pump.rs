//! One client's connection through the proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{Done, Fate, Inner, frames};

/// How long a late request's answer is waited for.
const LATE_PATIENCE: Duration = Duration::from_secs(5);

/// What the answers must know about the requests before them.
enum Sent {
    Answered,
    /// This answer is thrown away, and the connection with it.
    Cut,
}

/// Returns when either side is gone or the connection is cut.
pub async fn serve(client: TcpStream, broker: TcpStream, inner: &Arc<Inner>) {
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let (told, sent) = mpsc::unbounded_channel();
    let cut = Arc::new(AtomicBool::new(false));
    tokio::select! {
        () = requests(from_client, to_broker, inner, &told, &cut) => {}
        () = answers(from_broker, to_client, sent, &cut) => {}
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    inner: &Arc<Inner>,
    told: &mpsc::UnboundedSender<Sent>,
    cut: &AtomicBool,
) {
    while let Ok(frame) = frames::read(&mut from).await {
        if let Some(capture) = &inner.capture {
            capture.keep(&frame);
        }
        let key = frames::api(&frame).map_or(-1, |(key, _)| key);
        let fate = if cut.load(Ordering::Relaxed) { Fate::Forward } else { inner.fate(key) };
        let answered = !frames::wants_no_answer(&frame);
        match fate {
            Fate::Late(later) => {
                deliver_late(inner, frame, later);
                return;
            }
            Fate::Again(later) => deliver_late(inner, frame.clone(), later),
            Fate::Delay(delay) => {
                Done::add(&inner.done.delayed);
                sleep(delay).await;
            }
            Fate::CutAnswer if answered => {
                Done::add(&inner.done.answers_cut);
                cut.store(true, Ordering::Relaxed);
            }
            Fate::CutAnswer | Fate::Forward => {}
        }
        if answered {
            let sent = if fate == Fate::CutAnswer { Sent::Cut } else { Sent::Answered };
            if told.send(sent).is_err() {
                return;
            }
        }
        Done::add(&inner.done.forwarded);
        if frames::write(&mut to, &frame).await.is_err() {
            return;
        }
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut sent: mpsc::UnboundedReceiver<Sent>,
    cut: &AtomicBool,
) {
    while let Ok(frame) = frames::read(&mut from).await {
        match sent.recv().await {
            Some(Sent::Answered) => {}
            Some(Sent::Cut) | None => {
                cut.store(false, Ordering::Relaxed);
                return;
            }
        }
        if frames::write(&mut to, &frame).await.is_err() {
            return;
        }
    }
}

/// The request comes to the broker after a while, over a connection of its own.
fn deliver_late(inner: &Arc<Inner>, frame: Vec<u8>, later: Duration) {
    let inner = Arc::clone(inner);
    tokio::spawn(async move {
        sleep(later).await;
        Done::add(&inner.done.late);
        let answer = timeout(LATE_PATIENCE, deliver(inner.backend, &frame)).await;
        if let Ok(Ok(true)) = answer {
            Done::add(&inner.done.late_answered);
        }
    });
}

/// Whether there was an answer.
async fn deliver(broker: SocketAddr, frame: &[u8]) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(broker).await?;
    frames::write(&mut stream, frame).await?;
    if frames::wants_no_answer(frame) {
        return Ok(false);
    }
    frames::read(&mut stream).await?;
    Ok(true)
}
