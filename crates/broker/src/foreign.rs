//! Other protocols, by the bytes with which their clients begin.

/// What speaks to the Kafka port and is no Kafka client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    Http,
    /// A handshake record, of any version.
    Tls,
}

/// The first four bytes of each method, and of the preface of HTTP/2.
const METHODS: [&[u8; 4]; 10] =
    [b"GET ", b"POST", b"PUT ", b"HEAD", b"DELE", b"OPTI", b"PATC", b"CONN", b"TRAC", b"PRI "];

impl Foreign {
    /// Of a head that is no length of a request.
    pub fn of(head: [u8; 4]) -> Option<Self> {
        match head {
            [0x16, 0x03, 0..=4, _] => Some(Self::Tls),
            head => METHODS.contains(&&head).then_some(Self::Http),
        }
    }
}

impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http => "the client speaks HTTP, and this is a Kafka port: registry, console and metrics are at the address of --http",
            Self::Tls => "the client speaks TLS, and this listener does not: set security.protocol=PLAINTEXT (or SASL_PLAINTEXT) in the client, or give the broker a listener SSL:// or SASL_SSL://",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_protocols_are_known_by_their_first_bytes() {
        assert_eq!(Foreign::of(*b"GET "), Some(Foreign::Http));
        assert_eq!(Foreign::of(*b"PRI "), Some(Foreign::Http));
        // A record of TLS 1.0 to 1.3 with a hello of 512 bytes.
        assert_eq!(Foreign::of([0x16, 0x03, 0x01, 0x02]), Some(Foreign::Tls));
        assert_eq!(Foreign::of(i32::MAX.to_be_bytes()), None);
        assert_eq!(Foreign::of((-5_i32).to_be_bytes()), None);
    }
}
