//! Who asks, as the parts see it that answer and do not know the rules: whether they may.

use std::fmt;
use std::sync::Arc;

use crate::acl::{Operation, ResourceType};

/// The rules, as they are for one client.
pub trait Rights: Send + Sync {
    fn allows(&self, operation: Operation, kind: ResourceType, name: &str) -> bool;

    /// The client asked for this very resource and was refused.
    fn refused(&self, operation: Operation, kind: ResourceType, name: &str);

    /// The client has made a change by this right.
    fn changed(&self, operation: Operation, kind: ResourceType, name: &str, detail: String);
}

/// A client whose request is being answered.
#[derive(Clone, Default)]
pub struct Caller(Option<Arc<dyn Rights>>);

impl Caller {
    pub fn new(rights: Arc<dyn Rights>) -> Self {
        Self(Some(rights))
    }

    /// One that may do everything: where nobody guards the way in.
    pub fn trusted() -> Self {
        Self(None)
    }

    /// Whether it may see the resource; nobody is told when it may not.
    pub fn sees(&self, operation: Operation, kind: ResourceType, name: &str) -> bool {
        self.0.as_ref().is_none_or(|rights| rights.allows(operation, kind, name))
    }

    /// Whether it may do what it asked for; a refusal is told to whoever watches.
    pub fn may(&self, operation: Operation, kind: ResourceType, name: &str) -> bool {
        let allowed = self.sees(operation, kind, name);
        if !allowed {
            self.refused(operation, kind, name);
        }
        allowed
    }

    pub fn refused(&self, operation: Operation, kind: ResourceType, name: &str) {
        if let Some(rights) = &self.0 {
            rights.refused(operation, kind, name);
        }
    }

    pub fn changed(&self, operation: Operation, kind: ResourceType, name: &str, detail: String) {
        if let Some(rights) = &self.0 {
            rights.changed(operation, kind, name, detail);
        }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("trusted", &self.0.is_none()).finish()
    }
}
