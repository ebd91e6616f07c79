//! A rule in the state log: codes and texts, as Kafka's messages have them.

use headwater_model::acl::{AclBinding, Operation, PatternType, Permission, ResourceType};
use serde::{Deserialize, Serialize};

/// A rule as it is written; one whose codes a build does not know does not decode, so that no DENY is ever overlooked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Row", try_from = "Row")]
pub struct AclRecord(pub AclBinding);

/// Resource type, name, pattern type, principal, host, operation, permission.
type Row = (i8, String, i8, String, String, i8, i8);

impl From<AclRecord> for Row {
    fn from(AclRecord(acl): AclRecord) -> Self {
        let (resource, pattern) = (acl.resource.code(), acl.pattern.code());
        let (operation, permission) = (acl.operation.code(), acl.permission.code());
        (resource, acl.name, pattern, acl.principal, acl.host, operation, permission)
    }
}

impl TryFrom<Row> for AclRecord {
    type Error = &'static str;

    fn try_from(
        (resource, name, pattern, principal, host, operation, permission): Row,
    ) -> Result<Self, Self::Error> {
        let binding = || {
            Some(AclBinding {
                resource: ResourceType::from_code(resource)?,
                name,
                pattern: PatternType::from_code(pattern)?,
                principal,
                host,
                operation: Operation::from_code(operation)?,
                permission: Permission::from_code(permission)?,
            })
        };
        binding().map(AclRecord).ok_or("an access rule with a code that this build does not know")
    }
}
