//! A snapshot on its way into a store. Reading, unpacking and checking go on beside; whoever has the store writes.

use std::sync::Arc;

use object_store::buffered::BufReader;
use tokio::io::AsyncBufReadExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::format::{LAYOUT, Piece, Reader, Unusable};
use super::place::hex;
use super::{Found, Snapshots, Subject};
use crate::state::Entry;

/// Blocks that wait to be written.
const AHEAD: usize = 4;
/// Asked of the place at once.
const PORTION: usize = 4 << 20;

/// The next part of a snapshot.
#[derive(Debug)]
pub(crate) enum Chunk {
    Entries(Vec<Entry>),
    /// All of it has come, and is what it says.
    End,
    /// It cannot be used; what has come of it is worth nothing.
    Failed(String),
}

/// Dropping it ends the reading.
pub(crate) struct Fetch {
    pub found: Found,
    chunks: mpsc::Receiver<Chunk>,
    job: JoinHandle<()>,
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.job.abort();
    }
}

impl Fetch {
    pub fn begin(snapshots: &Arc<Snapshots>, of: Subject, found: Found) -> Self {
        let (sender, chunks) = mpsc::channel(AHEAD);
        let (snapshots, wanted) = (snapshots.clone(), found.clone());
        let job = tokio::spawn(async move {
            let last = match snapshots.read(&of, &wanted, &sender).await {
                Ok(()) => Chunk::End,
                Err(error) => Chunk::Failed(format!("{}: {error}", wanted.object.location)),
            };
            // Nobody may want it any more.
            let _ = sender.send(last).await;
        });
        Self { found, chunks, job }
    }

    /// `None` if nothing has come yet.
    pub fn take(&mut self) -> Option<Chunk> {
        match self.chunks.try_recv() {
            Ok(chunk) => Some(chunk),
            Err(mpsc::error::TryRecvError::Empty) => None,
            Err(mpsc::error::TryRecvError::Disconnected) => Some(Self::gone()),
        }
    }

    pub async fn next(&mut self) -> Chunk {
        self.chunks.recv().await.unwrap_or_else(Self::gone)
    }

    fn gone() -> Chunk {
        Chunk::Failed("reading it ended without a word".to_owned())
    }
}

impl Snapshots {
    async fn read(&self, of: &Subject, found: &Found, to: &mpsc::Sender<Chunk>) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("read from {}: {error}", self.place.url());
        let mut object = BufReader::with_capacity(self.place.store.clone(), &found.object, PORTION);
        let mut reader = Reader::default();
        loop {
            let portion = object.fill_buf().await.map_err(failed)?;
            let length = portion.len();
            if length == 0 {
                break;
            }
            reader.push(portion);
            object.consume(length);
            while let Some(piece) = reader.next().map_err(|error| error.to_string())? {
                match piece {
                    Piece::Header(header) => {
                        let is_it = header.layout == LAYOUT
                            && header.changelog == of.changelog.topic.as_str()
                            && header.partition == of.changelog.partition
                            && header.store == of.store.store
                            && header.topic_id == hex(of.topic_id)
                            && header.position == found.position;
                        if !is_it {
                            return Err(Unusable(format!("it is of something else: {header:?}")).to_string());
                        }
                    }
                    Piece::Entries(entries) => {
                        let sent = to.send(Chunk::Entries(entries)).await;
                        sent.map_err(|_| "nobody wants it any more".to_owned())?;
                    }
                    Piece::End => {}
                }
            }
        }
        match reader.is_whole() {
            true => Ok(()),
            false => Err("it ends early".to_owned()),
        }
    }
}
