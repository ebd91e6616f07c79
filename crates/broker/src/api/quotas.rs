//! Client quotas: listing and changing them (KIP-546).

use headwater_coordinator::{
    EntityFilter, Failure, QuotaAlteration, QuotaEntity, QuotaFilter, QuotaRecord, Request, Response,
};
use headwater_model::acl::CLUSTER_NAME;
use headwater_wire::messages::describe_client_quotas_request::ComponentData;
use headwater_wire::messages::describe_client_quotas_response::{
    DescribeClientQuotasResponseData, EntityData, EntryData, ValueData,
};
use headwater_wire::messages::{
    AlterClientQuotasRequestData, AlterClientQuotasResponseData, DescribeClientQuotasRequestData,
    alter_client_quotas_request, alter_client_quotas_response,
};
use headwater_wire::{ErrorCode, KafkaString};

use super::{Call, CallError, optional, rights, text};

const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const ANY: i8 = 2;
const NOT_ALLOWED: &str = "the client may not do this with the quotas of the cluster";

pub async fn describe(
    call: &Call,
    request: DescribeClientQuotasRequestData,
) -> Result<DescribeClientQuotasResponseData, CallError> {
    let refuse = |code: ErrorCode, message: String| {
        DescribeClientQuotasResponseData::default()
            .with_error_code(code.code())
            .with_error_message(Some(message.into()))
            .with_entries(None)
    };
    if let Err(code) = call.check_cluster(rights::DESCRIBE_CLUSTER_CONFIGS) {
        return Ok(refuse(code, NOT_ALLOWED.to_owned()));
    }
    // As Kafka has it: others may know more types of entities.
    let mut kinds = request.components.iter().map(|component| component.entity_type.as_str());
    if let Some(custom) = kinds.find(|kind| !kind.is_empty() && !QuotaEntity::has_kind(kind)) {
        let message = format!("entities of type '{custom}' are not known here: use user, client-id or ip");
        return Ok(refuse(ErrorCode::UnsupportedVersion, message));
    }
    let parts: Result<Vec<_>, _> = request.components.iter().map(part).collect();
    let filter = match parts.and_then(|parts| QuotaFilter::new(parts, request.strict)) {
        Ok(filter) => filter,
        Err(message) => return Ok(refuse(ErrorCode::InvalidRequest, message)),
    };
    let mut found: Vec<QuotaRecord> = call.shared.rules.quotas().records().collect();
    found.retain(|record| filter.matches(&record.entity));
    found.sort_by(|one, next| one.entity.cmp(&next.entity));
    let entries = found.chunk_by(|one, next| one.entity == next.entity).map(entry).collect();
    Ok(DescribeClientQuotasResponseData::default().with_entries(Some(entries)))
}

fn part(component: &ComponentData) -> Result<(String, EntityFilter), String> {
    let kind = text(&component.entity_type);
    match (component.match_type, optional(&component.r#match)) {
        (EXACT, Some(name)) => Ok((kind, EntityFilter::Exactly(name))),
        (DEFAULT, _) => Ok((kind, EntityFilter::Default)),
        (ANY, _) => Ok((kind, EntityFilter::Any)),
        _ => Err(format!("'{kind}' is matched by 0 (a name), 1 (the default) or 2 (any name)")),
    }
}

/// The limits of one entity, of which there is one at least.
fn entry(records: &[QuotaRecord]) -> EntryData {
    let entity = records[0].entity.parts().map(|(kind, name)| {
        EntityData::default()
            .with_entity_type(KafkaString::from_static(kind))
            .with_entity_name(name.map(|name| name.to_owned().into()))
    });
    let values = records.iter().filter_map(|record| {
        let limit = record.limit?;
        Some(ValueData::default().with_key(KafkaString::from_static(record.key.name())).with_value(limit.0))
    });
    EntryData::default().with_entity(entity.collect()).with_values(values.collect())
}

pub async fn alter(
    call: &Call,
    request: AlterClientQuotasRequestData,
) -> Result<AlterClientQuotasResponseData, CallError> {
    let results = match call.check_cluster(rights::ALTER_CLUSTER_CONFIGS) {
        Err(code) => request.entries.iter().map(|_| Err((code, NOT_ALLOWED.to_owned()))).collect(),
        Ok(()) => altered(call, &request).await?,
    };
    let outcome =
        |(entry, result): (&alter_client_quotas_request::EntryData, Result<(), (ErrorCode, String)>)| {
            let entity = entry.entity.iter().map(|part| {
                alter_client_quotas_response::EntityData::default()
                    .with_entity_type(part.entity_type.clone())
                    .with_entity_name(part.entity_name.clone())
            });
            let response = alter_client_quotas_response::EntryData::default().with_entity(entity.collect());
            match result {
                Ok(()) => response,
                Err((code, message)) => {
                    response.with_error_code(code.code()).with_error_message(Some(message.into()))
                }
            }
        };
    let entries = request.entries.iter().zip(results).map(outcome).collect();
    Ok(AlterClientQuotasResponseData::default().with_entries(entries))
}

async fn altered(
    call: &Call,
    request: &AlterClientQuotasRequestData,
) -> Result<Vec<Result<(), (ErrorCode, String)>>, CallError> {
    let alterations: Vec<QuotaAlteration> = request.entries.iter().map(alteration).collect();
    let alter =
        Request::AlterQuotas { alterations: alterations.clone(), validate_only: request.validate_only };
    let Response::AlterQuotas(results) = call.ask(alter).await? else { return Err(call.mismatch()) };
    for (alteration, _) in alterations.iter().zip(&results).filter(|(_, result)| result.is_ok()) {
        if !request.validate_only {
            call.changed(rights::ALTER_CLUSTER_CONFIGS, CLUSTER_NAME, || Some(told(alteration)));
        }
    }
    let refused = |failure: Failure| (ErrorCode::from(failure.error.code()), failure.message);
    Ok(results.into_iter().map(|result| result.map_err(refused)).collect())
}

fn alteration(entry: &alter_client_quotas_request::EntryData) -> QuotaAlteration {
    let entity = entry.entity.iter().map(|part| (text(&part.entity_type), optional(&part.entity_name)));
    let changes = entry.ops.iter().map(|op| (text(&op.key), (!op.remove).then_some(op.value)));
    QuotaAlteration { entity: entity.collect(), changes: changes.collect() }
}

/// A line for the audit stream.
fn told(alteration: &QuotaAlteration) -> String {
    let entity = match QuotaEntity::read(&alteration.entity) {
        Ok(entity) => {
            entity.parts().map(|(kind, name)| format!("{kind}={} ", name.unwrap_or("<default>"))).collect()
        }
        Err(_) => String::new(),
    };
    let changes = alteration.changes.iter().map(|(key, value)| match value {
        Some(value) => format!("{key}={value}"),
        None => format!("{key} removed"),
    });
    format!("quota of {entity}: {}", changes.collect::<Vec<_>>().join(", ")).replace(" :", ":")
}
