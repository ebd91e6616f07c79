//! One line of the audit stream.

use std::net::IpAddr;
use std::sync::Arc;

use headwater_model::acl::ResourceType;
use headwater_model::{Principal, TimestampMs};
use serde_json::{Value, json};

/// Of a client's name for itself, and of the name of a resource, in characters: clients say what they like, at any length,
/// and thousands of entries may wait.
pub const LONGEST_CLIENT: usize = 128;
pub const LONGEST_NAME: usize = 512;

/// The operation of one that failed to prove who it is.
pub const AUTHENTICATE: &str = "AUTHENTICATE";

/// Who did what to which resource, and whether it was allowed. Entries with one subject are one line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject {
    pub principal: Arc<Principal>,
    pub host: IpAddr,
    pub client_id: String,
    pub api: &'static str,
    /// Kafka's word for it, or `AUTHENTICATE`.
    pub operation: &'static str,
    pub resource: ResourceType,
    pub name: String,
}

#[derive(Debug, Clone)]
pub struct Entry {
    pub time: TimestampMs,
    pub subject: Subject,
    pub allowed: bool,
    /// What a change has made: the rule, the keys of the configuration; no secrets.
    pub detail: Option<String>,
}

impl Entry {
    /// The record's value; `count` like it came in a short time.
    pub fn json(&self, count: u64) -> Value {
        let Subject { principal, host, client_id, api, operation, resource, name } = &self.subject;
        json!({
            "time": self.time,
            "principal": principal.to_string(),
            "host": host.to_string(),
            "client_id": client_id,
            "operation": operation,
            "resource": { "type": resource.word(), "name": name },
            "allowed": self.allowed,
            "api": api,
            "detail": self.detail,
            "count": count,
        })
    }
}
