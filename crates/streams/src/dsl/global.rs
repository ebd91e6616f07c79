//! Global tables in the DSL: only to be joined with.

use std::marker::PhantomData;

use crate::serdes::SerdeRef;

/// A table that every instance holds completely.
pub struct GlobalKTable<K, V> {
    pub(crate) index: usize,
    pub(crate) key_serde: SerdeRef<K>,
    pub(crate) value: PhantomData<fn() -> V>,
}

impl<K, V> Clone for GlobalKTable<K, V> {
    fn clone(&self) -> Self {
        Self { index: self.index, key_serde: self.key_serde.clone(), value: PhantomData }
    }
}
