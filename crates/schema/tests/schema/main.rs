//! What `headwater-schema` promises, from outside of it.

mod agreement;
mod compatibility;
mod evolution;
mod hostile;
mod json;
mod parsing;
mod values;

use headwater_schema::AvroSchema;

fn schema(text: &str) -> AvroSchema {
    AvroSchema::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}
