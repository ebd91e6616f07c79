//! Which topics a client may know of: asked of the broker's authorizer, where the coordinator itself looks for topics.

use std::fmt;
use std::sync::Arc;

use crate::request::Client;

pub trait Sight: Send + Sync {
    /// Grows with every change of what anybody may see.
    fn version(&self) -> u64;

    /// Whether the client may describe the topic.
    fn sees(&self, client: &Client, topic: &str) -> bool;
}

/// Without an authorizer everybody sees everything.
#[derive(Clone, Default)]
pub(crate) struct Sights(pub Option<Arc<dyn Sight>>);

impl fmt::Debug for Sights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sights").field(&self.version()).finish()
    }
}

impl Sights {
    pub fn version(&self) -> u64 {
        self.0.as_ref().map_or(0, |sight| sight.version())
    }

    pub fn sees(&self, client: &Client, topic: &str) -> bool {
        self.0.as_ref().is_none_or(|sight| sight.sees(client, topic))
    }
}
