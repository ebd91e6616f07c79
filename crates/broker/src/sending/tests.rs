use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BufMut;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::*;
use crate::outgoing::gather;

const SIZE: usize = 3 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// A wire on which bytes are changed on their way, as TLS does.
impl Wire for tokio::io::DuplexStream {}

fn file() -> Arc<LogFile> {
    let bytes: Vec<u8> = (0..SIZE as u32).map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect();
    crate::mirror::file_of(&bytes)
}

fn range(file: &Arc<LogFile>, position: usize, length: usize) -> FileRange<LogFile> {
    FileRange {
        id: headwater_log::FileId::journal(1),
        file: Arc::clone(file),
        position: position as u64,
        length,
    }
}

fn answer(file: &Arc<LogFile>, parts: &[(usize, usize)]) -> Outgoing {
    let mut outgoing = Outgoing::begin(1, true, 0);
    for &(position, length) in parts {
        outgoing.bytes_mut().put_slice(b"between");
        outgoing.insert(range(file, position, length));
    }
    outgoing.bytes_mut().put_slice(b"end");
    outgoing.seal().unwrap()
}

/// Ranges one after the other, nearer and further, short and long.
fn rows(file: &Arc<LogFile>) -> Outgoing {
    let other = self::file();
    let mut outgoing = Outgoing::begin(1, true, 0);
    for (length, gap, count) in [
        (100, 25, 3_000),
        (1, GAP as usize, 100),
        (1, GAP as usize + 1, 50),
        (DIRECT - 1, 25, 20),
        (30_000, 25, 20),
        (STAGE - 1, 1, 5),
        (DIRECT, 0, 3),
    ] {
        outgoing.bytes_mut().put_slice(b"rows");
        for n in 0..count {
            outgoing.insert(range(file, 11 + n * (length + gap), length));
        }
        outgoing.insert(range(&other, 11 + count * (length + gap), length));
        outgoing.insert(range(file, 0, length));
    }
    outgoing.seal().unwrap()
}

/// Short and long ranges, next to each other and apart, and responses without any.
fn answers(file: &Arc<LogFile>) -> Vec<Outgoing> {
    let mut answers: Vec<Outgoing> = [
        &[][..],
        &[(1, DIRECT - 1)],
        &[(7, DIRECT), (0, 0), (100, 10), (SIZE - 5, 5)],
        &[],
        &[],
        &[(0, SIZE), (0, STAGE), (3, STAGE + 1), (0, 2 * STAGE - 1), (5, SIZE - 5)],
        &[],
    ]
    .map(|parts| answer(file, parts))
    .into();
    answers.insert(1, rows(file));
    answers
}

async fn sockets() -> (Writing, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, server) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (headwater_security::Stream::Plain(server.unwrap().0).into_split().1, client.unwrap())
}

async fn check(mut wire: impl Wire, mut other: impl tokio::io::AsyncRead + Unpin) {
    let file = file();
    let answers = answers(&file);
    let expected: Vec<u8> = answers.iter().flat_map(gather).collect();
    let mut received = Vec::new();
    let sending = async {
        send(&mut wire, &answers, PATIENCE).await.unwrap();
        drop(wire);
    };
    let (_, read) = tokio::join!(sending, other.read_to_end(&mut received));
    assert_eq!(read.unwrap(), expected.len());
    assert!(received == expected);
}

#[tokio::test]
async fn a_socket_gets_every_byte_in_order() {
    let (writer, client) = sockets().await;
    check(writer, client).await;
}

#[tokio::test]
async fn anything_else_gets_the_same_bytes() {
    let (writer, client) = tokio::io::duplex(10_000);
    check(writer, client).await;
}

#[tokio::test]
async fn a_file_that_ends_early_is_an_error_and_nothing_is_made_up() {
    for (position, length) in [(SIZE - 1_000, 2_000), (SIZE - DIRECT, 2 * DIRECT), (SIZE, DIRECT)] {
        let (mut writer, mut client) = sockets().await;
        let answers = [answer(&file(), &[(position, length)])];
        let mut received = Vec::new();
        let sending = async {
            let failed = send(&mut writer, &answers, PATIENCE).await;
            drop(writer);
            failed
        };
        let (failed, _) = tokio::join!(sending, client.read_to_end(&mut received));
        let Err(SendError::Log { source, .. }) = failed else { panic!("{length}: {failed:?}") };
        assert_eq!(source.kind(), ErrorKind::UnexpectedEof, "{length}");
        assert!(received.len() <= 16 + SIZE - position, "{} bytes", received.len());
    }
}

#[tokio::test]
async fn a_client_that_has_gone_is_not_an_error_of_the_log() {
    let (mut writer, client) = sockets().await;
    client.set_zero_linger().unwrap();
    drop(client);
    let answers = [answer(&file(), &[(0, SIZE), (0, SIZE), (0, SIZE)])];
    let failed = send(&mut writer, &answers, PATIENCE).await;
    assert!(matches!(failed, Err(SendError::Socket(_))), "{failed:?}");
}

/// Takes a little at a time, and its time for it.
#[derive(Default)]
struct Slow {
    taken: usize,
    waits: bool,
}

impl AsyncWrite for Slow {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.waits = !self.waits;
        if self.waits {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        std::thread::sleep(Duration::from_millis(10));
        let taken = bytes.len().min(STAGE);
        self.taken += taken;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Wire for Slow {}

/// It takes longer than the patience in all, and much less at each step.
#[tokio::test]
async fn who_reads_slowly_gets_all_and_who_reads_nothing_is_given_up() {
    let answers = [answer(&file(), &[(0, SIZE)])];
    let mut slow = Slow::default();
    send(&mut slow, &answers, Duration::from_millis(200)).await.unwrap();
    assert_eq!(slow.taken, gather(&answers[0]).len());
    let (mut writer, _reader) = tokio::io::duplex(1_000);
    let unread = send(&mut writer, &answers, Duration::from_millis(10)).await;
    assert!(matches!(unread, Err(SendError::Unread)), "{unread:?}");
}
