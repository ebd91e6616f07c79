//! The way to the state of an application from Rust: from within an instance, or from a program that is none.

use std::sync::{Arc, Weak};

use axum::http::StatusCode;
use headwater_client::Security;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ask::{Ask, Told};
use super::failure::{Merged, StateQueryError};
use super::hosts::KeyQueryMetadata;
use super::remote::{detail, post};
use super::route;
use super::typed::StoreQueries;
use crate::access::Asker;
use crate::app::Shared;

/// Asks an application for what its stores hold, on whichever instance that is. Clones are cheap.
#[derive(Clone)]
pub struct Queries {
    way: Way,
}

#[derive(Clone)]
enum Way {
    /// It does not keep a stopped application's directory locked.
    Inside(Weak<Shared>),
    Outside(Arc<Outside>),
}

struct Outside {
    asker: Asker,
    group: String,
    hosts: Vec<String>,
}

impl Queries {
    pub(crate) fn inside(shared: &Arc<Shared>) -> Self {
        Self { way: Way::Inside(Arc::downgrade(shared)) }
    }

    /// For a program that is no instance itself: asks one of these instances (`host:port`) of the application, in this
    /// order until one answers; that one passes the question on.
    ///
    /// # Errors
    /// None so far: where nobody can be asked, the questions say why.
    pub fn remote(
        application_id: impl Into<String>,
        hosts: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self, StateQueryError> {
        Self::remote_by(application_id, hosts, &Security::default())
    }

    /// As [`Queries::remote`], of instances that ask who one is: with the authorities, the certificate or the user of a
    /// client's settings ([`Security::http`]). Keys of TLS among them mean `https://`; an instance may be a URL, too.
    ///
    /// # Errors
    /// As [`Queries::remote`].
    pub fn remote_by(
        application_id: impl Into<String>,
        hosts: impl IntoIterator<Item = impl Into<String>>,
        security: &Security,
    ) -> Result<Self, StateQueryError> {
        let (group, asker) = (application_id.into(), Asker::program(security.http()));
        let hosts = hosts.into_iter().map(Into::into).collect();
        Ok(Self { way: Way::Outside(Arc::new(Outside { asker, group, hosts })) })
    }

    /// The questions that a store with such keys and values takes. They are JSON on the way, as `serde` writes it.
    pub fn store<K: Serialize + DeserializeOwned, V: DeserializeOwned>(
        &self,
        name: impl Into<String>,
    ) -> StoreQueries<K, V> {
        StoreQueries::new(self.clone(), name.into())
    }

    /// Which instance has a key of a store and which have copies of it, as of the last rebalance (KIP-535); `None` of a
    /// global store, which every instance has. Only from within an instance.
    pub fn query_metadata_for_key<K: Serialize>(
        &self,
        store: &str,
        key: &K,
    ) -> Result<Option<KeyQueryMetadata>, StateQueryError> {
        let Way::Inside(shared) = &self.way else {
            let detail = "ask an instance for it: GET /stores/{store}/metadata/{key}".to_owned();
            return Err(StateQueryError::Refused { detail });
        };
        let shared = shared.upgrade().ok_or(StateQueryError::Stopped)?;
        let store = route::find(&shared, store)?;
        let task = route::task_of(&shared, &store, &key_text(key)?)?;
        Ok(task.map(|task| shared.hosts.of(task)))
    }

    pub(super) async fn ask(&self, ask: &Ask) -> Result<Merged, StateQueryError> {
        let told = match &self.way {
            Way::Inside(shared) => {
                let shared = shared.upgrade().ok_or(StateQueryError::Stopped)?;
                route::answer(&shared, ask, false).await?
            }
            Way::Outside(outside) => outside.ask(ask).await?,
        };
        Merged::of(told, ask.limit())
    }
}

/// A key as text, by which stores are asked.
pub(super) fn key_text<K: Serialize>(key: &K) -> Result<String, StateQueryError> {
    serde_json::to_string(key)
        .map_err(|error| StateQueryError::Refused { detail: format!("a key is no JSON: {error}") })
}

impl Outside {
    async fn ask(&self, ask: &Ask) -> Result<Told, StateQueryError> {
        let mut tried = Vec::new();
        for host in &self.hosts {
            match post(&self.asker, (host, &self.group), ask, false).await {
                Ok((status, body)) => match read(status, &body) {
                    Ok(told) => return Ok(told),
                    Err(
                        error @ (StateQueryError::Unavailable { .. } | StateQueryError::Unreachable { .. }),
                    ) => {
                        tried.push(format!("{host}: {error}"));
                    }
                    Err(error) => return Err(error),
                },
                Err(why) => tried.push(format!("{host}: {why}")),
            }
        }
        let detail = if tried.is_empty() { "none was named".to_owned() } else { tried.join("; ") };
        Err(StateQueryError::Unreachable { group: self.group.clone(), detail })
    }
}

/// What an instance said to a question as a whole.
fn read(status: StatusCode, body: &[u8]) -> Result<Told, StateQueryError> {
    if status == StatusCode::OK {
        return serde_json::from_slice(body).map_err(|error| StateQueryError::Failed {
            detail: format!("the answer cannot be read: {error}; are program and instance of one version?"),
        });
    }
    let detail = detail(body);
    Err(match status {
        StatusCode::SERVICE_UNAVAILABLE => StateQueryError::Unavailable { detail },
        status if status.is_client_error() => StateQueryError::Refused { detail },
        _ => StateQueryError::Failed { detail },
    })
}
