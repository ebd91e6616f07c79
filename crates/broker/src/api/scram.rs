//! SCRAM credentials (KIP-554): kept as RFC 5802's keys; who asks is told how many iterations, and never a key.

use std::collections::{BTreeMap, BTreeSet};

use headwater_coordinator::{Request, Response, ScramChange, ScramRecord};
use headwater_model::acl::CLUSTER_NAME;
use headwater_security::scram::{LEAST_ITERATIONS, MOST_ITERATIONS};
use headwater_security::{ScramCredential, ScramMechanism};
use headwater_wire::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use headwater_wire::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use headwater_wire::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use headwater_wire::messages::{
    AlterUserScramCredentialsRequestData, AlterUserScramCredentialsResponseData,
    DescribeUserScramCredentialsRequestData, DescribeUserScramCredentialsResponseData,
};
use headwater_wire::{ErrorCode, KafkaString};

use super::{Call, CallError, rights, text};

type Refusal = (ErrorCode, String);

pub async fn alter(
    call: &Call,
    request: AlterUserScramCredentialsRequestData,
) -> Result<AlterUserScramCredentialsResponseData, CallError> {
    if let Err(code) = call.check_cluster(rights::ALTER_CLUSTER) {
        let deleted = request.deletions.iter().map(|one| text(&one.name));
        let put = request.upsertions.iter().map(|one| text(&one.name));
        let users: BTreeSet<String> = deleted.chain(put).collect();
        let refused = |user: String| {
            AlterUserScramCredentialsResult::default().with_user(user.into()).with_error_code(code.code())
        };
        let results = users.into_iter().map(refused).collect();
        return Ok(AlterUserScramCredentialsResponseData::default().with_results(results));
    }
    let known = call.shared.authority.credentials.described();
    let is_there = |user: &str, mechanism: ScramMechanism| {
        known.get(user).is_some_and(|kept| kept.iter().any(|(known, _)| *known == mechanism))
    };
    let deletions = request.deletions.iter().map(|one| (text(&one.name), deletion(one, is_there)));
    let upsertions = request.upsertions.iter().map(|one| (text(&one.name), upsertion(one)));
    let mut refused: BTreeMap<String, Refusal> = BTreeMap::new();
    let mut changes: BTreeMap<String, ScramChange> = BTreeMap::new();
    for (user, change) in deletions.chain(upsertions) {
        if refused.contains_key(&user) {
            continue;
        }
        // As in Kafka, two mechanisms of a user take two requests: results are by user.
        let again = changes.remove(&user).is_some();
        match change {
            _ if again => {
                let message = "a user may be named once in a request, whatever the mechanism".to_owned();
                refused.insert(user, (ErrorCode::DuplicateResource, message));
            }
            Ok(change) => drop(changes.insert(user, change)),
            Err(refusal) => drop(refused.insert(user, refusal)),
        }
    }
    let changes: Vec<ScramChange> = changes.into_values().collect();
    let altered = call.ask(Request::AlterScramCredentials(changes)).await?;
    let Response::AlterScramCredentials(altered) = altered else { return Err(call.mismatch()) };
    let altered = altered.into_iter().map(|(user, error)| {
        if error.is_none() {
            call.changed(rights::ALTER_CLUSTER, CLUSTER_NAME, || Some(format!("SCRAM credential of {user}")));
        }
        let message = error.map(|error| error.to_string());
        (user, error.map_or(0, headwater_coordinator::Error::code), message)
    });
    let refused = refused.into_iter().map(|(user, (code, message))| (user, code.code(), Some(message)));
    let result = |(user, code, message): (String, i16, Option<String>)| {
        AlterUserScramCredentialsResult::default()
            .with_user(user.into())
            .with_error_code(code)
            .with_error_message(message.map(KafkaString::from))
    };
    let results = refused.chain(altered).map(result).collect();
    Ok(AlterUserScramCredentialsResponseData::default().with_results(results))
}

fn mechanism(code: i8) -> Result<ScramMechanism, Refusal> {
    let unknown = || (ErrorCode::UnsupportedSaslMechanism, format!("there is no SCRAM mechanism {code}"));
    ScramMechanism::from_code(code).ok_or_else(unknown)
}

fn name(user: &KafkaString) -> Result<String, Refusal> {
    let empty = || (ErrorCode::UnacceptableCredential, "a user must have a name".to_owned());
    Some(text(user)).filter(|name| !name.is_empty()).ok_or_else(empty)
}

fn deletion(
    deletion: &ScramCredentialDeletion,
    is_there: impl Fn(&str, ScramMechanism) -> bool,
) -> Result<ScramChange, Refusal> {
    let mechanism = mechanism(deletion.mechanism)?;
    let user = name(&deletion.name)?;
    if !is_there(&user, mechanism) {
        return Err((ErrorCode::ResourceNotFound, "this user has no such SCRAM credential".to_owned()));
    }
    Ok(ScramChange::Delete { user, mechanism: mechanism.code() })
}

fn upsertion(upsertion: &ScramCredentialUpsertion) -> Result<ScramChange, Refusal> {
    let unacceptable = |message: String| (ErrorCode::UnacceptableCredential, message);
    let mechanism = mechanism(upsertion.mechanism)?;
    let user = name(&upsertion.name)?;
    let iterations = u32::try_from(upsertion.iterations).unwrap_or(0);
    if !(LEAST_ITERATIONS..=MOST_ITERATIONS).contains(&iterations) {
        let message = format!("iterations must be {LEAST_ITERATIONS} to {MOST_ITERATIONS}, not {iterations}");
        return Err(unacceptable(message));
    }
    // Of any length, as with Kafka: it is but the key of a MAC. No client makes one that is empty.
    if upsertion.salt.is_empty() || upsertion.salted_password.is_empty() {
        return Err(unacceptable("the salt or the salted password is empty".to_owned()));
    }
    let credential =
        ScramCredential::of_salted(mechanism, &upsertion.salted_password, &upsertion.salt, iterations);
    Ok(ScramChange::Put(record(user, mechanism, credential)))
}

fn record(user: String, mechanism: ScramMechanism, credential: ScramCredential) -> ScramRecord {
    ScramRecord {
        user,
        mechanism: mechanism.code(),
        salt: credential.salt,
        iterations: credential.iterations,
        stored_key: credential.stored_key,
        server_key: credential.server_key,
    }
}

pub async fn describe(
    call: &Call,
    request: DescribeUserScramCredentialsRequestData,
) -> Result<DescribeUserScramCredentialsResponseData, CallError> {
    if let Err(code) = call.check_cluster(rights::DESCRIBE_CLUSTER) {
        return Ok(DescribeUserScramCredentialsResponseData::default().with_error_code(code.code()));
    }
    let known = call.shared.authority.credentials.described();
    let wanted = request.users.filter(|users| !users.is_empty());
    let results = match wanted {
        None => known.iter().map(|(user, credentials)| described(user, credentials)).collect(),
        Some(users) => {
            let mut times: BTreeMap<String, usize> = BTreeMap::new();
            users.iter().for_each(|user| *times.entry(text(&user.name)).or_default() += 1);
            let asked = times.iter().map(|(user, times)| match known.get(user) {
                _ if *times > 1 => missing(user, ErrorCode::DuplicateResource, "it is asked for twice"),
                Some(credentials) => described(user, credentials),
                None => missing(user, ErrorCode::ResourceNotFound, "this user has no SCRAM credential"),
            });
            asked.collect()
        }
    };
    Ok(DescribeUserScramCredentialsResponseData::default().with_results(results))
}

fn described(user: &str, credentials: &[(ScramMechanism, u32)]) -> DescribeUserScramCredentialsResult {
    let credential = |(mechanism, iterations): &(ScramMechanism, u32)| {
        CredentialInfo::default().with_mechanism(mechanism.code()).with_iterations(*iterations as i32)
    };
    DescribeUserScramCredentialsResult::default()
        .with_user(user.to_owned().into())
        .with_credential_infos(credentials.iter().map(credential).collect())
}

fn missing(user: &str, code: ErrorCode, message: &'static str) -> DescribeUserScramCredentialsResult {
    DescribeUserScramCredentialsResult::default()
        .with_user(user.to_owned().into())
        .with_error_code(code.code())
        .with_error_message(Some(KafkaString::from_static(message)))
}
