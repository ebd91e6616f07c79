//! What each path asks of a client: one table. A path that has no line is refused to everybody whom rules bind.
//!
//! The rules are those of Kafka's topics: a subject is as its topic, and whoever may read or write `_schemas` itself
//! may do the same here. `docs/security.md` shows the table to users.

use std::sync::Arc;

use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use headwater_model::Caller;
use headwater_model::acl::{CLUSTER_NAME, Operation, ResourceType};
use headwater_schema::topic_of_subject as topic;

use crate::refusal::Refusal;
use crate::store::{Store, TOPIC};

/// What a line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Nothing, or the handler shows only what the client may see.
    Nothing,
    /// An operation on the subject's topic.
    Subject(Operation),
    /// An operation on the cluster, as it is about all subjects.
    Everything(Operation),
    /// DESCRIBE of the topic of one subject that uses the schema.
    Schema,
}

use Needs::{Everything, Nothing, Schema, Subject};
use Operation::{AlterConfigs, Delete, Describe, DescribeConfigs, Write};

const NEEDS: &[(&str, &str, Needs)] = &[
    ("GET", "/subjects", Nothing),
    ("POST", "/subjects/{subject}", Subject(Describe)),
    ("DELETE", "/subjects/{subject}", Subject(Delete)),
    ("GET", "/subjects/{subject}/versions", Subject(Describe)),
    ("POST", "/subjects/{subject}/versions", Subject(Write)),
    ("GET", "/subjects/{subject}/versions/{version}", Subject(Describe)),
    ("DELETE", "/subjects/{subject}/versions/{version}", Subject(Delete)),
    ("GET", "/subjects/{subject}/versions/{version}/schema", Subject(Describe)),
    ("GET", "/subjects/{subject}/versions/{version}/referencedby", Subject(Describe)),
    ("GET", "/schemas/types", Nothing),
    ("GET", "/schemas/ids/{id}", Schema),
    ("GET", "/schemas/ids/{id}/schema", Schema),
    ("GET", "/schemas/ids/{id}/subjects", Schema),
    ("GET", "/schemas/ids/{id}/versions", Schema),
    ("POST", "/compatibility/subjects/{subject}/versions", Subject(Describe)),
    ("POST", "/compatibility/subjects/{subject}/versions/{version}", Subject(Describe)),
    ("GET", "/config", Nothing),
    ("PUT", "/config", Everything(AlterConfigs)),
    ("DELETE", "/config", Everything(AlterConfigs)),
    ("GET", "/config/{subject}", Subject(DescribeConfigs)),
    ("PUT", "/config/{subject}", Subject(AlterConfigs)),
    ("DELETE", "/config/{subject}", Subject(AlterConfigs)),
    ("GET", "/mode", Nothing),
    ("GET", "/mode/{subject}", Subject(DescribeConfigs)),
];

/// Which right on `_schemas` stands for any other.
fn instead(operation: Operation) -> Operation {
    match operation {
        Describe | DescribeConfigs => Operation::Read,
        _ => Write,
    }
}

/// Whether the client may see the subject; for lists.
pub fn sees(caller: &Caller, subject: &str) -> bool {
    caller.sees(Describe, ResourceType::Topic, topic(subject))
        || caller.sees(Operation::Read, ResourceType::Topic, TOPIC)
}

fn may(caller: &Caller, operation: Operation, (kind, name): (ResourceType, &str)) -> bool {
    caller.sees(operation, kind, name) || caller.sees(instead(operation), ResourceType::Topic, TOPIC)
}

/// A schema that no subject uses any more belongs to those who may read all.
fn sees_schema(caller: &Caller, store: &Store, id: &str) -> bool {
    if caller.sees(Operation::Read, ResourceType::Topic, TOPIC) {
        return true;
    }
    let Ok(id) = id.parse() else { return true };
    store.state().uses(id, true).iter().any(|(subject, _)| sees(caller, subject))
}

/// Stands before every path.
pub async fn admit(
    State(store): State<Arc<Store>>,
    matched: MatchedPath,
    parameters: RawPathParams,
    request: Request,
    next: Next,
) -> Response {
    let caller = request.extensions().get::<Caller>().cloned().unwrap_or_else(Caller::trusted);
    let parameter = |name| parameters.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value);
    let method = if request.method() == "HEAD" { "GET" } else { request.method().as_str() };
    let line = NEEDS.iter().find(|(known, path, _)| *known == method && *path == matched.as_str());
    let (operation, on) = match line.map(|(_, _, needs)| *needs) {
        Some(Nothing) => return next.run(request).await,
        Some(Schema) => {
            let id = parameter("id");
            if sees_schema(&caller, &store, id) {
                return next.run(request).await;
            }
            // As one that is not there: ids can be counted.
            return Refusal::IdNotFound(id.parse().unwrap_or_default()).into_response();
        }
        Some(Subject(operation)) => {
            (operation, (ResourceType::Topic, topic(parameter("subject")).to_owned()))
        }
        Some(Everything(operation)) => (operation, (ResourceType::Cluster, CLUSTER_NAME.to_owned())),
        None => (Operation::All, (ResourceType::Cluster, CLUSTER_NAME.to_owned())),
    };
    let (kind, name) = (on.0, on.1.as_str());
    if !may(&caller, operation, (kind, name)) {
        caller.refused(operation, kind, name);
        return Refusal::NotAllowed { operation, kind, name: name.to_owned() }.into_response();
    }
    let changes = matches!(operation, Write | Delete | AlterConfigs).then(|| request.uri().path().to_owned());
    let response = next.run(request).await;
    if let Some(path) = changes.filter(|_| response.status().is_success()) {
        caller.changed(operation, kind, name, path);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths of `http.rs`, read from its text: a route without a line would be closed to everybody.
    #[test]
    fn every_route_has_its_lines_and_every_line_its_route() {
        let source = include_str!("../http.rs");
        let routes: std::collections::BTreeSet<&str> =
            source.split('"').skip(1).step_by(2).filter(|text| text.starts_with('/')).collect();
        let lines: std::collections::BTreeSet<&str> = NEEDS.iter().map(|(_, path, _)| *path).collect();
        assert_eq!(routes, lines);
    }
}
