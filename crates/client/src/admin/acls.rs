//! Access rules as an operator keeps them.

use headwater_model::acl::{AclBinding, AclFilter, Operation, PatternType, Permission, ResourceType};
use headwater_wire::messages::delete_acls_request::DeleteAclsFilter;
use headwater_wire::messages::{
    AclCreation, CreateAclsRequestData, DeleteAclsRequestData, DescribeAclsRequestData,
};

use super::text;
use crate::{Client, ClientError};

/// The code of a filter that stands for all.
const ANY: i8 = 1;

impl Client {
    /// Makes rules; one that is there already stays as it is.
    pub async fn create_acls(&self, acls: &[AclBinding]) -> Result<(), ClientError> {
        let creation = |acl: &AclBinding| {
            AclCreation::default()
                .with_resource_type(acl.resource.code())
                .with_resource_name(text(&acl.name))
                .with_resource_pattern_type(acl.pattern.code())
                .with_principal(text(&acl.principal))
                .with_host(text(&acl.host))
                .with_operation(acl.operation.code())
                .with_permission_type(acl.permission.code())
        };
        let request = CreateAclsRequestData::default().with_creations(acls.iter().map(creation).collect());
        self.ask(&request, |answer| {
            for (acl, result) in acls.iter().zip(&answer.results) {
                let what = || format!("make the rule \"{acl}\"");
                ClientError::check(result.error_code, result.error_message.as_ref(), what)?;
            }
            Ok(())
        })
        .await
    }

    /// The rules that the filter names.
    pub async fn acls(&self, filter: &AclFilter) -> Result<Vec<AclBinding>, ClientError> {
        let request = DescribeAclsRequestData::default()
            .with_resource_type_filter(filter.resource.map_or(ANY, ResourceType::code))
            .with_resource_name_filter(filter.name.as_deref().map(text))
            .with_pattern_type_filter(filter.pattern.code())
            .with_principal_filter(filter.principal.as_deref().map(text))
            .with_host_filter(filter.host.as_deref().map(text))
            .with_operation(filter.operation.map_or(ANY, Operation::code))
            .with_permission_type(filter.permission.map_or(ANY, Permission::code));
        self.ask(&request, |answer| {
            ClientError::check(answer.error_code, answer.error_message.as_ref(), || {
                "list access rules".into()
            })?;
            let mut acls = Vec::new();
            for resource in answer.resources {
                for acl in resource.acls {
                    let pattern =
                        (resource.resource_type, resource.resource_name.as_str(), resource.pattern_type);
                    let entry =
                        (acl.principal.as_str(), acl.host.as_str(), acl.operation, acl.permission_type);
                    // A newer broker may have kinds of rules that this client has no word for.
                    acls.extend(binding(pattern, entry));
                }
            }
            acls.sort_unstable();
            Ok(acls)
        })
        .await
    }

    /// Deletes the rules that the filter names, and returns them.
    pub async fn delete_acls(&self, filter: &AclFilter) -> Result<Vec<AclBinding>, ClientError> {
        let wanted = DeleteAclsFilter::default()
            .with_resource_type_filter(filter.resource.map_or(ANY, ResourceType::code))
            .with_resource_name_filter(filter.name.as_deref().map(text))
            .with_pattern_type_filter(filter.pattern.code())
            .with_principal_filter(filter.principal.as_deref().map(text))
            .with_host_filter(filter.host.as_deref().map(text))
            .with_operation(filter.operation.map_or(ANY, Operation::code))
            .with_permission_type(filter.permission.map_or(ANY, Permission::code));
        let request = DeleteAclsRequestData::default().with_filters(vec![wanted]);
        self.ask(&request, |answer| {
            let mut deleted = Vec::new();
            for result in answer.filter_results {
                let what = || "delete access rules".to_owned();
                ClientError::check(result.error_code, result.error_message.as_ref(), what)?;
                for acl in result.matching_acls {
                    ClientError::check(acl.error_code, acl.error_message.as_ref(), what)?;
                    let pattern = (acl.resource_type, acl.resource_name.as_str(), acl.pattern_type);
                    let entry =
                        (acl.principal.as_str(), acl.host.as_str(), acl.operation, acl.permission_type);
                    deleted.extend(binding(pattern, entry));
                }
            }
            deleted.sort_unstable();
            Ok(deleted)
        })
        .await
    }
}

fn binding(
    (resource, name, pattern): (i8, &str, i8),
    (principal, host, operation, permission): (&str, &str, i8, i8),
) -> Option<AclBinding> {
    Some(AclBinding {
        resource: ResourceType::from_code(resource)?,
        name: name.to_owned(),
        pattern: PatternType::from_code(pattern)?,
        principal: principal.to_owned(),
        host: host.to_owned(),
        operation: Operation::from_code(operation)?,
        permission: Permission::from_code(permission)?,
    })
}
