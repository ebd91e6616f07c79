//! Where snapshots lie: `<prefix>/<application id>/<changelog>/<partition>/<topic id>-<position>.snapshot`.

use std::sync::Arc;

use headwater_model::{Offset, TopicPartition};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use url::Url;

use super::Found;

const SUFFIX: &str = ".snapshot";

pub(crate) struct Place {
    pub store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// For people.
    url: String,
}

impl Place {
    /// Credentials and endpoint of S3 are the `AWS_…` variables of the environment.
    pub fn open(url: &str) -> Result<Self, String> {
        let parsed = Url::parse(url)
            .map_err(|error| format!("{error}; use file:///directory or s3://bucket/prefix"))?;
        match parsed.scheme() {
            "file" => std::fs::create_dir_all(parsed.path()).map_err(|error| error.to_string())?,
            "s3" => {}
            other => return Err(format!("{other}:// is neither file:// nor s3://")),
        }
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let options = variables
            .filter(|(name, value)| name.starts_with("AWS_") && !value.is_empty())
            .map(|(name, value)| (name.to_lowercase(), value));
        let (store, prefix) =
            object_store::parse_url_opts(&parsed, options).map_err(|error| error.to_string())?;
        Ok(Self { store: Arc::from(store), prefix, url: url.trim_end_matches('/').to_owned() })
    }

    pub fn folder(&self, application_id: &str, changelog: &TopicPartition) -> Path {
        let TopicPartition { topic, partition } = changelog;
        self.prefix.clone().join(application_id).join(topic.as_str()).join(partition.to_string())
    }

    pub fn path(folder: &Path, topic_id: [u8; 16], position: Offset) -> Path {
        folder.clone().join(format!("{}-{position:020}{SUFFIX}", hex(topic_id)))
    }

    /// What lies there and is named as a snapshot is.
    pub async fn list(&self, folder: &Path) -> Result<Vec<Found>, String> {
        let listed = self.store.list_with_delimiter(Some(folder)).await;
        let listed = listed.map_err(|error| format!("list {folder} in {}: {error}", self.url))?;
        Ok(listed.objects.into_iter().filter_map(parse).collect())
    }

    /// One that another has removed is gone as well.
    pub async fn remove(&self, path: &Path) -> Result<(), String> {
        match self.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(format!("remove {path} from {}: {error}", self.url)),
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }
}

fn parse(object: ObjectMeta) -> Option<Found> {
    let (topic, position) = object.location.filename()?.strip_suffix(SUFFIX)?.split_once('-')?;
    let (topic_id, position) = (from_hex(topic)?, position.parse().ok()?);
    Some(Found { object, position, topic_id })
}

pub(super) fn hex(id: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(id))
}

fn from_hex(text: &str) -> Option<[u8; 16]> {
    let number = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32)?;
    Some(number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(location: Path) -> ObjectMeta {
        ObjectMeta { location, last_modified: Default::default(), size: 0, e_tag: None, version: None }
    }

    #[test]
    fn a_name_says_topic_and_position_and_anything_else_is_passed_over() {
        let (folder, id) = (Path::from("a/b"), *b"0123456789abcdef");
        let found = parse(object(Place::path(&folder, id, 77))).unwrap();
        assert_eq!((found.topic_id, found.position), (id, 77));
        for other in ["x.snapshot", "0-5.snapshot", "30313233343536373839616263646566-7.tmp"] {
            assert!(parse(object(folder.clone().join(other))).is_none(), "{other}");
        }
    }

    #[test]
    fn a_place_that_cannot_be_used_says_what_can() {
        for (url, said) in [("snapshots", "file:///"), ("ftp://there", "neither file:// nor s3://")] {
            let refused = Place::open(url).err().unwrap();
            assert!(refused.contains(said), "{refused}");
        }
    }
}
