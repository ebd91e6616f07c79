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

macro_rules! numbers {
    ($($(#[$doc:meta])* $serde:ident, $number:ident, $called:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default)]
        pub struct $serde;

        impl Serde<$number> for $serde {
            fn serialize(&self, _topic: &str, value: &$number) -> Result<Bytes, SerdeError> {
                Ok(Bytes::copy_from_slice(&value.to_be_bytes()))
            }

            fn deserialize(&self, topic: &str, bytes: &Bytes) -> Result<$number, SerdeError> {
                self.read(topic, bytes)
            }

            fn write(&self, _topic: &str, value: &$number, out: &mut Vec<u8>) -> Result<(), SerdeError> {
                out.extend_from_slice(&value.to_be_bytes());
                Ok(())
            }

            fn read(&self, _topic: &str, bytes: &[u8]) -> Result<$number, SerdeError> {
                const SIZE: usize = size_of::<$number>();
                <[u8; SIZE]>::try_from(bytes)
                    .map($number::from_be_bytes)
                    .map_err(|_| SerdeError::new(format!("{} has {SIZE} bytes, found {}", $called, bytes.len())))
            }
        }
    )*};
}

numbers! {
    /// Two bytes, big endian, two's complement: Java's `ShortSerializer`.
    I16Serde, i16, "a 16-bit integer";
    /// Four bytes, big endian, two's complement: Java's `IntegerSerializer`.
    I32Serde, i32, "a 32-bit integer";
    /// Eight bytes, big endian, two's complement: Java's `LongSerializer`.
    I64Serde, i64, "a 64-bit integer";
    /// Four bytes, big endian, IEEE 754: Java's `FloatSerializer`.
    F32Serde, f32, "a 32-bit floating-point number";
    /// Eight bytes, big endian, IEEE 754: Java's `DoubleSerializer`.
    F64Serde, f64, "a 64-bit floating-point number";
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

/// Big-endian 16-bit integers.
pub fn i16() -> SerdeRef<i16> {
    Arc::new(I16Serde)
}

/// Big-endian 32-bit integers.
pub fn i32() -> SerdeRef<i32> {
    Arc::new(I32Serde)
}

/// Big-endian 32-bit floating-point numbers.
pub fn f32() -> SerdeRef<f32> {
    Arc::new(F32Serde)
}

/// Big-endian 64-bit floating-point numbers.
pub fn f64() -> SerdeRef<f64> {
    Arc::new(F64Serde)
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

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    fn check<T: PartialEq + Debug>(serde: SerdeRef<T>, value: T, java: &[u8]) {
        assert_eq!(serde.serialize("t", &value).unwrap(), java);
        let mut written = vec![7];
        serde.write("t", &value, &mut written).unwrap();
        assert_eq!(written[1..], *java);
        assert_eq!(serde.deserialize("t", &Bytes::copy_from_slice(java)).unwrap(), value);
        let error = serde.read("t", &java[1..]).unwrap_err().to_string();
        assert!(error.ends_with(&format!("has {} bytes, found {}", java.len(), java.len() - 1)), "{error}");
    }

    #[test]
    fn numbers_have_the_bytes_that_javas_serializers_write() {
        check(i16(), 258, &[1, 2]);
        check(i32(), -2, &[0xff, 0xff, 0xff, 0xfe]);
        check(i64(), 258, &[0, 0, 0, 0, 0, 0, 1, 2]);
        check(f32(), 1.5, &[0x3f, 0xc0, 0, 0]);
        check(f64(), -1.5, &[0xbf, 0xf8, 0, 0, 0, 0, 0, 0]);
    }
}
