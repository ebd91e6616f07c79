//! How keys and values become bytes: the [`Serde`] trait and the serdes of plain types.
//!
//! Owns the formats that need no schema registry (raw bytes, UTF-8, big-endian integers as Java writes them, JSON).
//! Refuses anything that needs a lookup: Avro lives in `headwater-runtime`.

use std::marker::PhantomData;
use std::sync::Arc;

use headwater_model::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a key or a value could not be converted; the message names what was found.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct SerdeError {
    pub message: String,
}

impl SerdeError {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

/// Converts values of `T` to bytes and back. `topic` lets a serde choose a schema subject.
pub trait Serde<T>: Send + Sync {
    fn serialize(&self, topic: &str, value: &T) -> Result<Bytes, SerdeError>;
    fn deserialize(&self, topic: &str, bytes: &Bytes) -> Result<T, SerdeError>;

    /// As `serialize`, at the end of `out`. Worth writing where that spares an allocation: stores use it for each change.
    fn write(&self, topic: &str, value: &T, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        out.extend_from_slice(&self.serialize(topic, value)?);
        Ok(())
    }

    /// As `deserialize`. Worth writing where that spares a copy: stores use it for each read.
    fn read(&self, topic: &str, bytes: &[u8]) -> Result<T, SerdeError> {
        self.deserialize(topic, &Bytes::copy_from_slice(bytes))
    }

    /// The value that stands for null on the wire, if `T` has one; without one, nulls are skipped and counted.
    fn null(&self) -> Option<T> {
        None
    }

    /// Whether `value` is written as null.
    fn is_null(&self, _value: &T) -> bool {
        false
    }

    /// For keys: the bytes that choose the partition of what a stream writes to a topic, where these are not the key's own. Keys
    /// of windows lie with their key.
    fn partition_key(&self, _topic: &str, _key: &T) -> Result<Option<Bytes>, SerdeError> {
        Ok(None)
    }
}

/// A shared serde, as the DSL's options take it.
pub type SerdeRef<T> = Arc<dyn Serde<T>>;

pub(crate) fn to_wire<T>(serde: &SerdeRef<T>, topic: &str, value: &T) -> Result<Option<Bytes>, SerdeError> {
    if serde.is_null(value) { Ok(None) } else { serde.serialize(topic, value).map(Some) }
}

/// Bytes as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct BytesSerde;

impl Serde<Bytes> for BytesSerde {
    fn serialize(&self, _topic: &str, value: &Bytes) -> Result<Bytes, SerdeError> {
        Ok(value.clone())
    }

    fn deserialize(&self, _topic: &str, bytes: &Bytes) -> Result<Bytes, SerdeError> {
        Ok(bytes.clone())
    }

    fn write(&self, _topic: &str, value: &Bytes, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        out.extend_from_slice(value);
        Ok(())
    }
}

/// UTF-8 text.
#[derive(Debug, Clone, Copy, Default)]
pub struct StringSerde;

impl Serde<String> for StringSerde {
    fn serialize(&self, _topic: &str, value: &String) -> Result<Bytes, SerdeError> {
        Ok(Bytes::copy_from_slice(value.as_bytes()))
    }

    fn deserialize(&self, topic: &str, bytes: &Bytes) -> Result<String, SerdeError> {
        self.read(topic, bytes)
    }

    fn write(&self, _topic: &str, value: &String, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        out.extend_from_slice(value.as_bytes());
        Ok(())
    }

    fn read(&self, _topic: &str, bytes: &[u8]) -> Result<String, SerdeError> {
        std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|error| SerdeError::new(format!("not UTF-8 text: {error}")))
    }
}

/// Eight bytes, big endian, two's complement: Java's `LongSerializer`.
#[derive(Debug, Clone, Copy, Default)]
pub struct I64Serde;

impl Serde<i64> for I64Serde {
    fn serialize(&self, _topic: &str, value: &i64) -> Result<Bytes, SerdeError> {
        Ok(Bytes::copy_from_slice(&value.to_be_bytes()))
    }

    fn deserialize(&self, topic: &str, bytes: &Bytes) -> Result<i64, SerdeError> {
        self.read(topic, bytes)
    }

    fn write(&self, _topic: &str, value: &i64, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        out.extend_from_slice(&value.to_be_bytes());
        Ok(())
    }

    fn read(&self, _topic: &str, bytes: &[u8]) -> Result<i64, SerdeError> {
        <[u8; 8]>::try_from(bytes)
            .map(i64::from_be_bytes)
            .map_err(|_| SerdeError::new(format!("a 64-bit integer has 8 bytes, found {}", bytes.len())))
    }
}

/// JSON text by serde.
pub struct JsonSerde<T>(PhantomData<fn() -> T>);

impl<T> JsonSerde<T> {
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Default for JsonSerde<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Serialize + DeserializeOwned> Serde<T> for JsonSerde<T> {
    fn serialize(&self, _topic: &str, value: &T) -> Result<Bytes, SerdeError> {
        serde_json::to_vec(value)
            .map(Bytes::from)
            .map_err(|error| SerdeError::new(format!("no JSON form: {error}")))
    }

    fn deserialize(&self, topic: &str, bytes: &Bytes) -> Result<T, SerdeError> {
        self.read(topic, bytes)
    }

    fn write(&self, _topic: &str, value: &T, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        serde_json::to_writer(out, value).map_err(|error| SerdeError::new(format!("no JSON form: {error}")))
    }

    fn read(&self, _topic: &str, bytes: &[u8]) -> Result<T, SerdeError> {
        serde_json::from_slice(bytes)
            .map_err(|error| SerdeError::new(format!("not the expected JSON: {error}")))
    }
}

/// `Option<T>` with `None` as null on the wire, so that null keys and tombstones flow through a stream.
pub struct NullableSerde<T>(SerdeRef<T>);

impl<T> Serde<Option<T>> for NullableSerde<T> {
    fn serialize(&self, topic: &str, value: &Option<T>) -> Result<Bytes, SerdeError> {
        match value {
            Some(value) => self.0.serialize(topic, value),
            None => Ok(Bytes::new()),
        }
    }

    fn deserialize(&self, topic: &str, bytes: &Bytes) -> Result<Option<T>, SerdeError> {
        self.0.deserialize(topic, bytes).map(Some)
    }

    fn write(&self, topic: &str, value: &Option<T>, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        value.as_ref().map_or(Ok(()), |value| self.0.write(topic, value, out))
    }

    fn read(&self, topic: &str, bytes: &[u8]) -> Result<Option<T>, SerdeError> {
        self.0.read(topic, bytes).map(Some)
    }

    fn null(&self) -> Option<Option<T>> {
        Some(None)
    }

    fn is_null(&self, value: &Option<T>) -> bool {
        value.is_none()
    }

    fn partition_key(&self, topic: &str, key: &Option<T>) -> Result<Option<Bytes>, SerdeError> {
        key.as_ref().map_or(Ok(None), |key| self.0.partition_key(topic, key))
    }
}

/// Values behind an `Arc`, so that several operators read one without a copy.
pub struct SharedSerde<T>(SerdeRef<T>);

impl<T> Serde<Arc<T>> for SharedSerde<T> {
    fn serialize(&self, topic: &str, value: &Arc<T>) -> Result<Bytes, SerdeError> {
        self.0.serialize(topic, value)
    }

    fn deserialize(&self, topic: &str, bytes: &Bytes) -> Result<Arc<T>, SerdeError> {
        self.0.deserialize(topic, bytes).map(Arc::new)
    }

    fn write(&self, topic: &str, value: &Arc<T>, out: &mut Vec<u8>) -> Result<(), SerdeError> {
        self.0.write(topic, value, out)
    }

    fn read(&self, topic: &str, bytes: &[u8]) -> Result<Arc<T>, SerdeError> {
        self.0.read(topic, bytes).map(Arc::new)
    }

    fn null(&self) -> Option<Arc<T>> {
        self.0.null().map(Arc::new)
    }

    fn is_null(&self, value: &Arc<T>) -> bool {
        self.0.is_null(value)
    }

    fn partition_key(&self, topic: &str, key: &Arc<T>) -> Result<Option<Bytes>, SerdeError> {
        self.0.partition_key(topic, key)
    }
}

/// Raw bytes.
pub fn bytes() -> SerdeRef<Bytes> {
    Arc::new(BytesSerde)
}

/// UTF-8 text.
pub fn string() -> SerdeRef<String> {
    Arc::new(StringSerde)
}

/// Big-endian 64-bit integers.
pub fn i64() -> SerdeRef<i64> {
    Arc::new(I64Serde)
}

/// JSON.
pub fn json<T: Serialize + DeserializeOwned + 'static>() -> SerdeRef<T> {
    Arc::new(JsonSerde::new())
}

/// The same serde for shared values.
pub fn shared<T: 'static>(serde: SerdeRef<T>) -> SerdeRef<Arc<T>> {
    Arc::new(SharedSerde(serde))
}

/// The same serde with `None` for null.
pub fn nullable<T: 'static>(serde: SerdeRef<T>) -> SerdeRef<Option<T>> {
    Arc::new(NullableSerde(serde))
}
