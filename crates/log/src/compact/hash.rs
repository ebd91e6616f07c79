//! SipHash with 128 bits of result: two keys that meet in the offset map would lose a record, so the
//! hash must be wide, and keyed, so that nobody can prepare keys that meet.

/// SipHash-`C`-`D` of `bytes` under `key` (Aumasson and Bernstein; the 128-bit variant of its reference).
#[inline]
pub fn siphash128<const C: usize, const D: usize>(key: [u64; 2], bytes: &[u8]) -> [u64; 2] {
    let mut state = State::new(key);
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        state.absorb::<C>(u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    last[7] = bytes.len() as u8;
    state.absorb::<C>(u64::from_le_bytes(last));
    state.2 ^= 0xee;
    let low = state.squeeze::<D>();
    state.1 ^= 0xdd;
    [low, state.squeeze::<D>()]
}

struct State(u64, u64, u64, u64);

impl State {
    fn new([k0, k1]: [u64; 2]) -> Self {
        Self(
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        )
    }

    #[inline]
    fn absorb<const C: usize>(&mut self, word: u64) {
        self.3 ^= word;
        for _ in 0..C {
            self.round();
        }
        self.0 ^= word;
    }

    #[inline]
    fn squeeze<const D: usize>(&mut self) -> u64 {
        for _ in 0..D {
            self.round();
        }
        self.0 ^ self.1 ^ self.2 ^ self.3
    }

    #[inline]
    fn round(&mut self) {
        self.0 = self.0.wrapping_add(self.1);
        self.2 = self.2.wrapping_add(self.3);
        self.1 = self.1.rotate_left(13) ^ self.0;
        self.3 = self.3.rotate_left(16) ^ self.2;
        self.0 = self.0.rotate_left(32);
        self.2 = self.2.wrapping_add(self.1);
        self.0 = self.0.wrapping_add(self.3);
        self.1 = self.1.rotate_left(17) ^ self.2;
        self.3 = self.3.rotate_left(21) ^ self.0;
        self.2 = self.2.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_vectors_come_out() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let expected = [
            (&[][..], [0xe6a8_25ba_047f_81a3, 0x9302_55c7_1472_f66d]),
            (&[0][..], [0x44af_996b_d8c1_87da, 0x45fc_229b_1159_7634]),
        ];
        for (bytes, hash) in expected {
            assert_eq!(siphash128::<2, 4>(key, bytes), hash);
        }
    }
}
