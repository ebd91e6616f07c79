//! From a URL and the environment to a store with bounds on its patience.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, ObjectStoreScheme, RetryConfig};
use url::Url;

use super::credentials;

/// No attempt begins so long after the first one: a reader waits for it, and gives up after 30 s.
pub const PATIENCE: Duration = Duration::from_secs(15);
const ATTEMPT: Duration = Duration::from_secs(15);
const CONNECT: Duration = Duration::from_secs(5);
const RETRIES: usize = 6;

pub struct Place {
    pub store: Arc<dyn ObjectStore>,
    pub prefix: Path,
    pub parts: bool,
}

pub fn open(url: &str) -> Result<Place, String> {
    let parsed = Url::parse(url).map_err(|error| error.to_string())?;
    let (scheme, prefix) = ObjectStoreScheme::parse(&parsed).map_err(|error| error.to_string())?;
    match scheme {
        ObjectStoreScheme::Local => {
            std::fs::create_dir_all(parsed.path()).map_err(|error| error.to_string())?;
            // The local copy goes when the object is there, so it must outlive a power cut.
            Ok(Place { store: Arc::new(LocalFileSystem::new().with_fsync(true)), prefix, parts: false })
        }
        ObjectStoreScheme::AmazonS3 => Ok(Place { store: Arc::new(s3(url)?), prefix, parts: true }),
        _ => Err(format!("{}:// is neither a directory nor S3", parsed.scheme())),
    }
}

fn s3(url: &str) -> Result<object_store::aws::AmazonS3, String> {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(4),
        base: 2.0,
    };
    let client = ClientOptions::new().with_timeout(ATTEMPT).with_connect_timeout(CONNECT);
    let retry = RetryConfig { backoff, max_retries: RETRIES, retry_timeout: PATIENCE };
    let mut builder = AmazonS3Builder::new().with_url(url).with_retry(retry).with_client_options(client);
    for (name, value) in credentials::of_file()?.into_iter().chain(environment()) {
        if let Ok(key) = name.parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    builder.build().map_err(|error| error.to_string())
}

/// As every tool for S3 reads it.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, value)| name.starts_with("AWS_") && !value.is_empty())
        .map(|(name, value)| (name.to_lowercase(), value))
}
