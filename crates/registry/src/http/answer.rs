//! What requests carry and answers look like, the same on every path.

use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use headwater_schema::AvroSchema;
use serde::{Deserialize, Serialize};

use crate::decide::Wanted;
use crate::refusal::Refusal;

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// JSON in Confluent's content type.
pub struct Answer<T>(pub T);

pub type Answered<T> = Result<Answer<T>, Refusal>;

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        respond(StatusCode::OK, &self.0)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, error_code) = self.codes();
        let body = serde_json::json!({ "error_code": error_code, "message": self.to_string() });
        respond(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &body)
    }
}

fn respond(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, CONTENT_TYPE)], bytes).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// `?deleted=true` and its like; unknown ones are ignored, as Confluent's registry does.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Flags {
    pub deleted: bool,
    pub deleted_only: bool,
    pub permanent: bool,
    pub verbose: bool,
    pub default_to_global: bool,
    pub subject_prefix: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SchemaBody {
    schema: Option<String>,
    schema_type: Option<String>,
    #[serde(default)]
    references: Option<Vec<serde_json::Value>>,
}

pub fn body<'b, T: Deserialize<'b>>(bytes: &'b Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| Refusal::BadRequest(error.to_string()))
}

/// The Avro schema in a request's body.
pub fn schema(bytes: &Bytes) -> Result<AvroSchema, Refusal> {
    let body: SchemaBody = body(bytes)?;
    if let Some(other) = body.schema_type.filter(|name| !name.is_empty() && name != "AVRO") {
        return Err(Refusal::InvalidSchema(format!(
            "schema type {other} is not supported; this registry keeps AVRO only"
        )));
    }
    if body.references.is_some_and(|references| !references.is_empty()) {
        let advice = "schema references are not supported; put the referenced types into the schema";
        return Err(Refusal::InvalidSchema(advice.to_owned()));
    }
    let text = body.schema.ok_or_else(|| Refusal::InvalidSchema("the body has no \"schema\"".to_owned()))?;
    Ok(AvroSchema::parse(&text)?)
}

pub fn wanted(version: &str) -> Result<Wanted, Refusal> {
    match version.parse::<i32>() {
        Ok(-1) => Ok(Wanted::Latest),
        Ok(number) if number > 0 => Ok(Wanted::Number(number)),
        _ if version == "latest" => Ok(Wanted::Latest),
        _ => Err(Refusal::InvalidVersion(version.to_owned())),
    }
}

pub fn check_subject(subject: &str) -> Result<(), Refusal> {
    if subject.is_empty() || subject.starts_with(":.") || subject.chars().any(char::is_control) {
        return Err(Refusal::InvalidSubject(subject.to_owned()));
    }
    Ok(())
}
