//! The cold store: a directory (`file:///path`) or S3 and what speaks its protocol (`s3://bucket/prefix`).
//!
//! Credentials and endpoint come from the environment, as every S3 tool reads them: `AWS_ACCESS_KEY_ID`,
//! `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP=true` for one without TLS.

use std::io;
use std::sync::Arc;

use headwater_log::ColdStore;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::runtime::Handle;
use url::Url;

use crate::StartError;

pub struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    runtime: Handle,
}

impl Objects {
    /// Objects lie under the cluster's id, so that clusters may share a bucket.
    pub fn open(url: &str, cluster_id: &str, runtime: Handle) -> Result<Self, StartError> {
        let refused = |reason: String| StartError::ColdStore { url: url.to_owned(), reason };
        let parsed = Url::parse(url).map_err(|error| refused(error.to_string()))?;
        if parsed.scheme() == "file" {
            std::fs::create_dir_all(parsed.path()).map_err(|error| refused(error.to_string()))?;
        }
        let options = std::env::vars()
            .filter(|(name, _)| name.starts_with("AWS_"))
            .map(|(name, value)| (name.to_lowercase(), value));
        let (store, prefix) =
            object_store::parse_url_opts(&parsed, options).map_err(|error| refused(error.to_string()))?;
        Ok(Self { store: Arc::from(store), prefix: prefix.join(cluster_id), runtime })
    }

    fn path(&self, name: &str) -> Path {
        self.prefix.clone().join(name)
    }
}

fn failed(error: object_store::Error) -> io::Error {
    match error {
        object_store::Error::NotFound { .. } => io::Error::new(io::ErrorKind::NotFound, error.to_string()),
        error => io::Error::other(format!("the cold store: {error}")),
    }
}

impl ColdStore for Objects {
    fn put(&self, name: &str, bytes: Vec<u8>) -> io::Result<()> {
        let path = self.path(name);
        self.runtime.block_on(self.store.put(&path, bytes.into())).map(drop).map_err(failed)
    }

    fn get(&self, name: &str) -> io::Result<Vec<u8>> {
        let path = self.path(name);
        self.runtime
            .block_on(async { self.store.get(&path).await?.bytes().await })
            .map(Vec::from)
            .map_err(failed)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        match self.runtime.block_on(self.store.delete(&path)) {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            deleted => deleted.map_err(failed),
        }
    }

    fn size(&self, name: &str) -> io::Result<Option<u64>> {
        match self.runtime.block_on(self.store.head(&self.path(name))) {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let listed = self.runtime.block_on(self.store.list_with_delimiter(Some(&self.prefix)));
        let objects = listed.map_err(failed)?.objects;
        Ok(objects.iter().filter_map(|object| object.location.filename().map(str::to_owned)).collect())
    }
}
