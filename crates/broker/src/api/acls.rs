//! Access rules: listing, making and deleting them.

use headwater_coordinator::{Failure, Request, Response, acl_matches};
use headwater_model::acl::{
    AclBinding, AclFilter, CLUSTER_NAME, Operation, PatternFilter, PatternType, Permission, ResourceType,
};
use headwater_wire::messages::create_acls_request::AclCreation;
use headwater_wire::messages::create_acls_response::{AclCreationResult, CreateAclsResponseData};
use headwater_wire::messages::delete_acls_request::DeleteAclsFilter;
use headwater_wire::messages::delete_acls_response::{
    DeleteAclsFilterResult, DeleteAclsMatchingAcl, DeleteAclsResponseData,
};
use headwater_wire::messages::describe_acls_response::{
    AclDescription, DescribeAclsResource, DescribeAclsResponseData,
};
use headwater_wire::messages::{CreateAclsRequestData, DeleteAclsRequestData, DescribeAclsRequestData};
use headwater_wire::{ErrorCode, KafkaString};

use super::rights::{self, Right};
use super::{Call, CallError, optional, text};

/// The code of a filter that stands for all.
const ANY: i8 = 1;
const OFF: &str = "there is no authorizer: start the broker with authorizer.class.name";
const NOT_ALLOWED: &str = "the client may not do this with the access rules of the cluster";
const MALFORMED: &str = "the filter has a code that stands for nothing";

/// Code and message.
type Refusal = (ErrorCode, KafkaString);

/// What holds for a whole request: the right on the cluster, and that there is an authorizer.
fn admitted(call: &Call, right: Right) -> Result<(), Refusal> {
    call.check_cluster(right).map_err(|code| (code, KafkaString::from_static(NOT_ALLOWED)))?;
    match call.shared.authorizer.is_on() {
        true => Ok(()),
        false => Err((ErrorCode::SecurityDisabled, KafkaString::from_static(OFF))),
    }
}

/// `None` for a code that stands for nothing.
fn one_or_any<T>(code: i8, read: fn(i8) -> Option<T>) -> Option<Option<T>> {
    if code == ANY { Some(None) } else { read(code).map(Some) }
}

fn filter(
    (resource, name, pattern): (i8, &Option<KafkaString>, i8),
    (principal, host): (&Option<KafkaString>, &Option<KafkaString>),
    (operation, permission): (i8, i8),
) -> Result<AclFilter, Refusal> {
    let read = || {
        Some(AclFilter {
            resource: one_or_any(resource, ResourceType::from_code)?,
            name: optional(name),
            pattern: PatternFilter::from_code(pattern)?,
            principal: optional(principal),
            host: optional(host),
            operation: one_or_any(operation, Operation::from_code)?,
            permission: one_or_any(permission, Permission::from_code)?,
        })
    };
    read().ok_or((ErrorCode::InvalidRequest, KafkaString::from_static(MALFORMED)))
}

pub async fn describe(
    call: &Call,
    request: DescribeAclsRequestData,
) -> Result<DescribeAclsResponseData, CallError> {
    let filter = admitted(call, rights::DESCRIBE_CLUSTER).and_then(|()| {
        filter(
            (request.resource_type_filter, &request.resource_name_filter, request.pattern_type_filter),
            (&request.principal_filter, &request.host_filter),
            (request.operation, request.permission_type),
        )
    });
    let response = DescribeAclsResponseData::default();
    let filter = match filter {
        Ok(filter) => filter,
        Err((code, message)) => {
            return Ok(response.with_error_code(code.code()).with_error_message(Some(message)));
        }
    };
    let acls = call.shared.rules.acls();
    let found: Vec<_> = acls.bindings.iter().filter(|acl| acl_matches(&filter, acl)).collect();
    let pattern = |acl: &AclBinding| (acl.resource, acl.name.clone(), acl.pattern);
    let resources = found.chunk_by(|one, next| pattern(one) == pattern(next)).map(described);
    Ok(response.with_resources(resources.collect()))
}

/// The rules of one pattern, of which there is one at least.
fn described(acls: &[&AclBinding]) -> DescribeAclsResource {
    let description = |acl: &&AclBinding| {
        AclDescription::default()
            .with_principal(acl.principal.clone().into())
            .with_host(acl.host.clone().into())
            .with_operation(acl.operation.code())
            .with_permission_type(acl.permission.code())
    };
    let first = acls[0];
    DescribeAclsResource::default()
        .with_resource_type(first.resource.code())
        .with_resource_name(first.name.clone().into())
        .with_pattern_type(first.pattern.code())
        .with_acls(acls.iter().map(description).collect())
}

pub async fn create(
    call: &Call,
    request: CreateAclsRequestData,
) -> Result<CreateAclsResponseData, CallError> {
    let admitted = admitted(call, rights::ALTER_CLUSTER);
    let read = |creation| admitted.clone().and_then(|()| binding(creation));
    let wanted: Vec<Result<AclBinding, Refusal>> = request.creations.iter().map(read).collect();
    let sound: Vec<AclBinding> = wanted.iter().filter_map(|one| one.clone().ok()).collect();
    let Response::CreateAcls(created) = call.ask(Request::CreateAcls(sound)).await? else {
        return Err(call.mismatch());
    };
    let mut created = created.into_iter();
    let mut results = Vec::with_capacity(wanted.len());
    for one in wanted {
        let outcome = match one {
            Ok(acl) => {
                let made = created.next().ok_or_else(|| call.mismatch())?.map_err(refusal);
                made.inspect(|()| tell(call, "made", &acl))
            }
            Err(refusal) => Err(refusal),
        };
        let result = AclCreationResult::default();
        results.push(match outcome {
            Ok(()) => result,
            Err((code, message)) => result.with_error_code(code.code()).with_error_message(Some(message)),
        });
    }
    Ok(CreateAclsResponseData::default().with_results(results))
}

fn tell(call: &Call, what: &str, acl: &AclBinding) {
    call.changed(rights::ALTER_CLUSTER, CLUSTER_NAME, || Some(format!("{what}: {acl}")));
}

fn refusal(failure: Failure) -> Refusal {
    (ErrorCode::from(failure.error.code()), failure.message.into())
}

fn binding(creation: &AclCreation) -> Result<AclBinding, Refusal> {
    let illegal = |what: &str, code: i8| {
        (ErrorCode::InvalidRequest, KafkaString::from(format!("{code} is no {what} that a rule can have")))
    };
    let (resource, pattern) = (creation.resource_type, creation.resource_pattern_type);
    let (operation, permission) = (creation.operation, creation.permission_type);
    Ok(AclBinding {
        resource: ResourceType::from_code(resource).ok_or_else(|| illegal("resource type", resource))?,
        name: text(&creation.resource_name),
        pattern: PatternType::from_code(pattern).ok_or_else(|| illegal("pattern type", pattern))?,
        principal: text(&creation.principal),
        host: text(&creation.host),
        operation: Operation::from_code(operation).ok_or_else(|| illegal("operation", operation))?,
        permission: Permission::from_code(permission)
            .ok_or_else(|| illegal("permission type", permission))?,
    })
}

pub async fn delete(
    call: &Call,
    request: DeleteAclsRequestData,
) -> Result<DeleteAclsResponseData, CallError> {
    let admitted = admitted(call, rights::ALTER_CLUSTER);
    let read = |one: &DeleteAclsFilter| {
        admitted.clone().and_then(|()| {
            filter(
                (one.resource_type_filter, &one.resource_name_filter, one.pattern_type_filter),
                (&one.principal_filter, &one.host_filter),
                (one.operation, one.permission_type),
            )
        })
    };
    let wanted: Vec<Result<AclFilter, Refusal>> = request.filters.iter().map(read).collect();
    let sound: Vec<AclFilter> = wanted.iter().filter_map(|one| one.clone().ok()).collect();
    let Response::DeleteAcls(deleted) = call.ask(Request::DeleteAcls(sound)).await? else {
        return Err(call.mismatch());
    };
    let mut deleted = deleted.into_iter();
    let mut results = Vec::with_capacity(wanted.len());
    for one in wanted {
        let result = DeleteAclsFilterResult::default();
        results.push(match one {
            Ok(_) => {
                let gone = deleted.next().ok_or_else(|| call.mismatch())?;
                gone.iter().for_each(|acl| tell(call, "deleted", acl));
                result.with_matching_acls(gone.into_iter().map(matching).collect())
            }
            Err((code, message)) => result.with_error_code(code.code()).with_error_message(Some(message)),
        });
    }
    Ok(DeleteAclsResponseData::default().with_filter_results(results))
}

fn matching(acl: AclBinding) -> DeleteAclsMatchingAcl {
    DeleteAclsMatchingAcl::default()
        .with_resource_type(acl.resource.code())
        .with_resource_name(acl.name.into())
        .with_pattern_type(acl.pattern.code())
        .with_principal(acl.principal.into())
        .with_host(acl.host.into())
        .with_operation(acl.operation.code())
        .with_permission_type(acl.permission.code())
}
