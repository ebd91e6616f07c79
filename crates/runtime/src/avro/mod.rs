//! Avro keys and values with schemas in a registry, framed as Confluent's serializers do.
//!
//! Writing registers the serde's schema under `<topic>-value` on first use; reading resolves the writer's schema, found by
//! the id in the frame, to the serde's own. Ids and compiled schemas are kept for ever: both are immutable. Tombstones are
//! the streams layer's business.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, PoisonError, RwLock};

use headwater_model::Bytes;
use headwater_registry::RegistryClient;
use headwater_schema::{AvroSchema, Resolver, SchemaError, confluent};
use headwater_streams::{Serde, SerdeError, SerdeRef};
use serde::Serialize;
use serde::de::DeserializeOwned;

mod lookup;

use lookup::Lookup;

/// Makes serdes that share one registry client; clones share it, too.
#[derive(Clone)]
pub struct AvroSerdes {
    lookup: Arc<Lookup>,
}

impl AvroSerdes {
    /// Looks up and registers schemas at `registry`. Serdes may be used on any thread, inside and outside of a runtime.
    pub fn new(registry: RegistryClient) -> Self {
        Self { lookup: Arc::new(Lookup::registry(registry)) }
    }

    /// Ids from a table of its own: for tests of a topology that have no registry.
    pub fn in_memory() -> Self {
        Self { lookup: Arc::new(Lookup::in_memory()) }
    }

    /// A serde that writes `schema` and reads whatever resolves to it.
    pub fn of<T: Serialize + DeserializeOwned + 'static>(&self, schema: &AvroSchema) -> SerdeRef<T> {
        Arc::new(AvroSerde {
            lookup: self.lookup.clone(),
            schema: schema.clone(),
            ids: RwLock::default(),
            resolvers: RwLock::default(),
            types: PhantomData,
        })
    }

    /// As [`AvroSerdes::of`], from the schema's JSON text.
    pub fn parse<T: Serialize + DeserializeOwned + 'static>(
        &self,
        schema: &str,
    ) -> Result<SerdeRef<T>, SchemaError> {
        Ok(self.of(&AvroSchema::parse(schema)?))
    }
}

/// Values of `T` in Avro; made by [`AvroSerdes`].
pub struct AvroSerde<T> {
    lookup: Arc<Lookup>,
    schema: AvroSchema,
    /// The schema's id in the subject of each topic.
    ids: RwLock<HashMap<String, u32>>,
    /// From each writer's schema to this one.
    resolvers: RwLock<HashMap<u32, Arc<Resolver>>>,
    types: PhantomData<fn() -> T>,
}

impl<T> AvroSerde<T> {
    /// Caches only grow by whole entries, so a panic elsewhere leaves them usable; likewise below.
    fn id(&self, topic: &str) -> Result<u32, SerdeError> {
        if let Some(id) = self.ids.read().unwrap_or_else(PoisonError::into_inner).get(topic) {
            return Ok(*id);
        }
        let id = self.lookup.register(&format!("{topic}-value"), &self.schema)?;
        self.ids.write().unwrap_or_else(PoisonError::into_inner).insert(topic.to_owned(), id);
        Ok(id)
    }

    fn resolver(&self, id: u32) -> Result<Arc<Resolver>, SerdeError> {
        if let Some(resolver) = self.resolvers.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(resolver.clone());
        }
        let writer = self.lookup.schema(id)?;
        let unfit = |error| {
            SerdeError::new(format!("schema {id} does not resolve to what this service reads: {error}"))
        };
        let resolver = Arc::new(Resolver::new(&writer, &self.schema).map_err(unfit)?);
        self.resolvers.write().unwrap_or_else(PoisonError::into_inner).insert(id, resolver.clone());
        Ok(resolver)
    }
}

impl<T: Serialize + DeserializeOwned> Serde<T> for AvroSerde<T> {
    fn serialize(&self, topic: &str, value: &T) -> Result<Bytes, SerdeError> {
        let id = self.id(topic)?;
        let body = headwater_schema::encode(&self.schema, value)
            .map_err(|error| SerdeError::new(format!("not a value of its Avro schema: {error}")))?;
        Ok(confluent::frame(id, &body))
    }

    fn deserialize(&self, _topic: &str, bytes: &Bytes) -> Result<T, SerdeError> {
        let (id, body) = confluent::unframe(bytes).map_err(|error| SerdeError::new(error.to_string()))?;
        self.resolver(id)?
            .decode(&body)
            .map_err(|error| SerdeError::new(format!("not a record of schema {id}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Old {
        id: i64,
        name: String,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct New {
        id: i64,
        remark: Option<String>,
    }

    const OLD: &str = r#"{"type":"record","name":"R","fields":[{"name":"id","type":"long"},{"name":"name","type":"string"}]}"#;
    const NEW: &str = r#"{"type":"record","name":"R","fields":[{"name":"id","type":"long"},{"name":"remark","type":["null","string"],"default":null}]}"#;

    #[test]
    fn a_reader_with_another_schema_resolves_the_writers() {
        let avro = AvroSerdes::in_memory();
        let (old, new) = (avro.parse::<Old>(OLD).unwrap(), avro.parse::<New>(NEW).unwrap());
        let bytes = old.serialize("topic", &Old { id: 7, name: "n".to_owned() }).unwrap();
        assert_eq!(bytes[0], 0);
        assert_eq!(new.deserialize("topic", &bytes).unwrap(), New { id: 7, remark: None });
        assert_eq!(old.deserialize("topic", &bytes).unwrap(), Old { id: 7, name: "n".to_owned() });
    }

    #[test]
    fn bytes_without_a_frame_or_with_an_unknown_id_are_errors() {
        let serde = AvroSerdes::in_memory().parse::<Old>(OLD).unwrap();
        assert!(serde.deserialize("topic", &Bytes::from("{}")).is_err());
        let error = serde.deserialize("topic", &Bytes::from_static(&[0, 0, 0, 0, 99, 2])).unwrap_err();
        assert!(error.message.contains("99"), "{error}");
    }
}
