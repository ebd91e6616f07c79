//! What services say of themselves in `_headwater.catalog`.

use headwater_model::Record;
use serde::Serialize;
use serde_json::Value;

/// The compacted topic in which every running service publishes its manifest and topology.
pub const TOPIC: &str = "_headwater.catalog";

/// One service as its last catalog record describes it.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Service {
    pub name: String,
    pub team: String,
    pub group_id: String,
    /// Base URL of its queries, when it serves any.
    pub http: Option<String>,
    pub reads: Vec<String>,
    pub writes: Vec<String>,
    pub topology: Value,
}

impl Service {
    /// Reads a `service/<name>` record; `None` for anything else.
    pub fn from_record(record: &Record) -> Option<Self> {
        let key = std::str::from_utf8(record.key.as_ref()?).ok()?;
        let name = key.strip_prefix("service/")?;
        let entry: Value = serde_json::from_slice(record.value.as_ref()?).ok()?;
        let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let topology = entry.get("topology").cloned().unwrap_or(Value::Null);
        let mut reads = Vec::new();
        let mut writes = Vec::new();
        topics_of(&topology, &mut reads, &mut writes);
        for (list, member) in [(&mut reads, "reads"), (&mut writes, "writes")] {
            for topic in entry.get(member).and_then(Value::as_array).into_iter().flatten() {
                list.extend(topic.as_str().map(str::to_owned));
            }
            list.sort();
            list.dedup();
        }
        // A service's own streams are its inside; the picture shows what lies between services.
        let internal = |topic: &String| {
            topic.starts_with(&format!("{name}-"))
                && (topic.ends_with("-changelog") || topic.ends_with("-repartition"))
        };
        reads.retain(|topic| !internal(topic));
        writes.retain(|topic| !internal(topic));
        Some(Self {
            team: text("/manifest/service/team").or_else(|| text("/team")).unwrap_or_default(),
            group_id: text("/group_id").unwrap_or_else(|| name.to_owned()),
            http: text("/http"),
            name: name.to_owned(),
            reads,
            writes,
            topology,
        })
    }
}

/// Collects the topics of source and sink nodes, wherever they stand in the description.
fn topics_of(value: &Value, reads: &mut Vec<String>, writes: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            let kind = members.get("kind").and_then(Value::as_str).unwrap_or_default().to_lowercase();
            let list = match kind.as_str() {
                "source" | "global-source" | "globalsource" | "global_source" | "global" => Some(&mut *reads),
                "sink" => Some(&mut *writes),
                _ => None,
            };
            if let (Some(list), Some(topics)) = (list, members.get("topics").and_then(Value::as_array)) {
                list.extend(topics.iter().filter_map(Value::as_str).map(str::to_owned));
            }
            members.values().for_each(|member| topics_of(member, reads, writes));
        }
        Value::Array(items) => items.iter().for_each(|item| topics_of(item, reads, writes)),
        _ => {}
    }
}
