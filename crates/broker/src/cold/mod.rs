//! The cold store: a directory (`file:///path`) or S3 and what speaks its protocol (`s3://bucket/prefix`).
//!
//! Owns where objects lie, how long a request may take, what a failure means to a person, and the figures of
//! it. Invariant: a request ends, well or badly, within [`place::PATIENCE`] and the time of one attempt for
//! each [`PART`].

mod activity;
mod credentials;
mod place;
mod reading;

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Instant;

use headwater_log::{COLD_PIECE, ColdStore, Pieces};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode};
use tokio::runtime::Handle;

pub use activity::ColdActivity;
pub use reading::{ColdReads, TRANSFER_BYTES};

/// What one request carries at most, so that its time says something of the server.
const PART: usize = COLD_PIECE;

const CREDENTIALS: &str = "the store refuses these credentials: look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, and whether they may get, put, delete and list there";

/// A list that is refused has no kind of its own.
fn is_refusal(text: &str) -> bool {
    ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"].iter().any(|code| text.contains(code))
}

/// Whether the store cannot put what is not there only: a server that does not know the condition, a file
/// system without hard links.
fn lacks_conditions(error: &object_store::Error) -> bool {
    let text = error.to_string();
    matches!(error, object_store::Error::NotImplemented { .. })
        || ["NotImplemented", "Operation not permitted", "not supported"]
            .iter()
            .any(|said| text.contains(said))
}

pub struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Larger objects come in parts, which a directory has no use for.
    parts: bool,
    url: String,
    runtime: Handle,
    activity: Arc<ColdActivity>,
}

impl Objects {
    /// Objects lie under the cluster's id, so that clusters may share a bucket. The store is not asked yet.
    ///
    /// # Errors
    /// Why the URL, or what the environment says of it, cannot be used.
    pub fn open(
        url: &str,
        cluster_id: &str,
        runtime: Handle,
        activity: Arc<ColdActivity>,
    ) -> Result<Self, String> {
        let place = place::open(url)?;
        let (store, prefix) = (place.store, place.prefix.join(cluster_id));
        Ok(Self { store, prefix, parts: place.parts, url: url.to_owned(), runtime, activity })
    }

    fn path(&self, name: &str) -> Path {
        self.prefix.clone().join(name)
    }

    fn ask<T>(&self, request: impl Future<Output = object_store::Result<T>>) -> io::Result<T> {
        let begun = Instant::now();
        let outcome = self.runtime.block_on(request).map_err(|error| self.failed(&error));
        let reason = outcome.as_ref().err().filter(|error| error.kind() != ErrorKind::NotFound);
        self.activity.asked(begun.elapsed(), reason.map(ToString::to_string));
        outcome
    }

    /// An error with what to do. Only an object that is not there is `NotFound`, and never a whole bucket.
    fn failed(&self, error: &object_store::Error) -> io::Error {
        use object_store::Error::{NotFound, PermissionDenied, Unauthenticated};
        let text = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        let next = match error {
            _ if text.contains("NoSuchBucket") => {
                "the bucket does not exist: make it, or correct the URL (headwater.cold.store)"
            }
            NotFound { .. } => return io::Error::new(ErrorKind::NotFound, text),
            _ if is_refusal(&text) => CREDENTIALS,
            PermissionDenied { .. } | Unauthenticated { .. } => CREDENTIALS,
            _ => "see whether the store is there (AWS_ENDPOINT_URL) and answers: it is asked again",
        };
        io::Error::other(format!("the store {}: {text}; {next}", self.url))
    }

    /// Each piece is a request of its own, and none is held longer than that takes.
    fn put_in_parts(&self, path: &Path, first: Vec<u8>, pieces: Pieces<'_>) -> io::Result<()> {
        let mut upload = self.ask(self.store.put_multipart(path))?;
        match self.send_parts(&mut *upload, first, pieces) {
            Ok(()) => Ok(()),
            Err(error) => {
                // What came is kept, and paid for, until it is told to go.
                if let Err(left) = self.ask(upload.abort()) {
                    tracing::warn!(%path, error = %left, "parts of an upload that failed are left in the cold store");
                }
                Err(error)
            }
        }
    }

    fn send_parts(
        &self,
        upload: &mut dyn MultipartUpload,
        first: Vec<u8>,
        pieces: Pieces<'_>,
    ) -> io::Result<()> {
        let mut next = Some(first);
        while let Some(piece) = next.take() {
            self.ask(upload.put_part(piece.into()))?;
            next = pieces()?;
        }
        self.ask(upload.complete()).map(drop)
    }

    async fn get_in_parts(&self, path: &Path) -> object_store::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let range = GetRange::Bounded(bytes.len() as u64..(bytes.len() + PART) as u64);
            let found =
                self.store.get_opts(path, GetOptions { range: Some(range), ..GetOptions::default() }).await?;
            let size = found.meta.size;
            let part = found.bytes().await?;
            let ended = part.is_empty();
            bytes.extend_from_slice(&part);
            if ended || bytes.len() as u64 >= size {
                return Ok(bytes);
            }
        }
    }
}

impl ColdStore for Objects {
    fn put(&self, name: &str, pieces: Pieces<'_>) -> io::Result<()> {
        let path = self.path(name);
        let first = pieces()?.unwrap_or_default();
        match first.len() < PART {
            true => self.ask(self.store.put(&path, first.into())).map(drop),
            false => self.put_in_parts(&path, first, pieces),
        }
    }

    fn put_new(&self, name: &str, bytes: Vec<u8>) -> io::Result<bool> {
        let path = self.path(name);
        self.ask(async {
            let (bytes, mode) = (bytes::Bytes::from(bytes), PutMode::Create);
            let put = self.store.put_opts(&path, bytes.clone().into(), mode.into()).await;
            match put.map(drop) {
                Ok(()) => Ok(true),
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                    Ok(false)
                }
                // It may have come there since, but not for long.
                Err(error) if lacks_conditions(&error) => {
                    self.store.put(&path, bytes.into()).await.map(|_| true)
                }
                Err(error) => Err(error),
            }
        })
    }

    fn get(&self, name: &str) -> io::Result<Vec<u8>> {
        let path = self.path(name);
        // A range of nothing is refused, so objects in parts are those that a log put there.
        match self.parts {
            true => self.ask(self.get_in_parts(&path)),
            false => self.ask(async { self.store.get(&path).await?.bytes().await }).map(Vec::from),
        }
    }

    fn get_range(&self, name: &str, from: u64, length: usize) -> io::Result<Vec<u8>> {
        let path = self.path(name);
        let range = Some(GetRange::Bounded(from..from + length as u64));
        let options = GetOptions { range, ..GetOptions::default() };
        self.ask(async { self.store.get_opts(&path, options).await?.bytes().await }).map(Vec::from)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        match self.ask(self.store.delete(&self.path(name))) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            deleted => deleted,
        }
    }

    fn size(&self, name: &str) -> io::Result<Option<u64>> {
        match self.ask(self.store.head(&self.path(name))) {
            Ok(found) => Ok(Some(found.size)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let objects = self.ask(self.store.list_with_delimiter(Some(&self.prefix)))?.objects;
        Ok(objects.iter().filter_map(|object| object.location.filename().map(str::to_owned)).collect())
    }
}

#[cfg(test)]
mod tests;
