//! The numbered record: its whole value follows from who wrote it, so any wrong byte shows.
//!
//! ```text
//!  0 magic "HWFT"   4 seed u64   12 producer u32   16 sequence u32   20 key u32   24 length u32
//! 28 padding up to `length`, a pseudo-random stream seeded by the 28 bytes before it
//! ```

const MAGIC: &[u8; 4] = b"HWFT";
const HEADER: usize = 28;
/// So much padding always follows, so that a header changed anywhere does not fit its padding.
const LEAST_PADDING: usize = 16;

/// Which record: the `sequence`-th of its producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId {
    pub producer: u32,
    pub sequence: u32,
}

impl std::fmt::Display for RecordId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "record {} of producer {}", self.sequence, self.producer)
    }
}

pub fn key(key: u32) -> Vec<u8> {
    format!("key-{key}").into_bytes()
}

/// The value of a record, `padding` bytes longer than the shortest.
pub fn encode(seed: u64, id: RecordId, key: u32, padding: usize) -> Vec<u8> {
    let length = HEADER + LEAST_PADDING + padding;
    let mut value = Vec::with_capacity(length);
    value.extend_from_slice(MAGIC);
    value.extend_from_slice(&seed.to_be_bytes());
    value.extend_from_slice(&id.producer.to_be_bytes());
    value.extend_from_slice(&id.sequence.to_be_bytes());
    value.extend_from_slice(&key.to_be_bytes());
    value.extend_from_slice(&(length as u32).to_be_bytes());
    pad(&mut value, length);
    value
}

/// Which record these bytes are; an error says what about them was never written by this harness.
pub fn decode(seed: u64, found_key: Option<&[u8]>, value: Option<&[u8]>) -> Result<RecordId, String> {
    let value = value.ok_or("a record without a value")?;
    if value.len() < HEADER + LEAST_PADDING || &value[..4] != MAGIC {
        return Err(format!("{} bytes that are no record of this harness", value.len()));
    }
    let number = |at: usize| u32::from_be_bytes([value[at], value[at + 1], value[at + 2], value[at + 3]]);
    let id = RecordId { producer: number(12), sequence: number(16) };
    if value[4..12] != seed.to_be_bytes() {
        return Err(format!("{id} of another run"));
    }
    let mut expected = value[..HEADER].to_vec();
    pad(&mut expected, value.len());
    if number(24) as usize != value.len() || expected != value {
        return Err(format!("{id} with bytes that were never written"));
    }
    if found_key != Some(key(number(20)).as_slice()) {
        return Err(format!("{id} under a key that is not its own"));
    }
    Ok(id)
}

fn pad(value: &mut Vec<u8>, length: usize) {
    let mut state = value.chunks(8).fold(0x9e37_79b9_7f4a_7c15_u64, |state, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(state ^ u64::from_le_bytes(word))
    });
    while value.len() < length {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = mix(state).to_le_bytes();
        let rest = (length - value.len()).min(8);
        value.extend_from_slice(&word[..rest]);
    }
}

/// The finalizer of SplitMix64.
pub fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: RecordId = RecordId { producer: 3, sequence: 41 };

    #[test]
    fn a_value_names_its_record() {
        for padding in [0, 1, 7, 8, 1000] {
            let value = encode(9, ID, 5, padding);
            assert_eq!(decode(9, Some(b"key-5"), Some(&value)), Ok(ID));
        }
    }

    #[test]
    fn every_flipped_bit_shows() {
        let good = encode(9, ID, 5, 20);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(9, Some(b"key-5"), Some(&bad)).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn another_key_another_seed_and_a_missing_value_show() {
        let value = encode(9, ID, 5, 20);
        assert!(decode(9, Some(b"key-6"), Some(&value)).is_err());
        assert!(decode(8, Some(b"key-5"), Some(&value)).is_err());
        assert!(decode(9, Some(b"key-5"), None).is_err());
    }
}
