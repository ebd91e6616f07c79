//! The subject of a certificate as text: RFC 2253, as Java's `X500Principal.getName()` writes it, since that is what
//! rules and ACLs made for Apache Kafka expect.

use std::fmt::Write;

use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Attributes that RFC 2253 has a name for; the others are written by number, with their bytes.
const NAMES: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
];

/// The subject of a certificate in DER; `None` when it is not a certificate.
pub fn subject(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(written(certificate.subject()))
}

/// Whether a certificate in DER may be shown by a client: not if its extended key usage is of servers only.
pub fn may_be_a_clients(certificate: &[u8]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let Ok(usage) = certificate.extended_key_usage() else { return false };
    usage.is_none_or(|usage| usage.value.any || usage.value.client_auth)
}

/// The most specific part first.
fn written(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> =
        name.iter_rdn().map(|part| part.iter().map(attribute).collect::<Vec<_>>().join("+")).collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let number = attribute.attr_type().to_id_string();
    match (NAMES.iter().find(|(known, _)| *known == number), attribute.as_str()) {
        (Some((_, name)), Ok(value)) => format!("{name}={}", escaped(value)),
        _ => {
            let value = attribute.attr_value();
            let mut hex = encoding(value.header.tag().0, value.data);
            hex.insert_str(0, &format!("{number}=#"));
            hex
        }
    }
}

/// A value in DER, in hexadecimal.
fn encoding(tag: u32, bytes: &[u8]) -> String {
    let mut hex = format!("{tag:02x}");
    match bytes.len() {
        short @ 0..0x80 => drop(write!(hex, "{short:02x}")),
        middle @ 0x80..0x100 => drop(write!(hex, "81{middle:02x}")),
        long => drop(write!(hex, "82{long:04x}")),
    }
    for byte in bytes {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, character) in value.chars().enumerate() {
        let special = matches!(character, ',' | '+' | '"' | '\\' | '<' | '>' | ';')
            || (character == '#' && at == 0)
            || (character == ' ' && (at == 0 || at == last));
        if special {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_meaning_is_escaped() {
        assert_eq!(escaped("a,b+c"), "a\\,b\\+c");
        assert_eq!(escaped(" x "), "\\ x\\ ");
        assert_eq!(escaped("#1"), "\\#1");
    }

    #[test]
    fn a_certificate_of_servers_only_is_no_clients() {
        use rcgen::{CertificateParams, ExtendedKeyUsagePurpose as Purpose, KeyPair};
        let is_clients = |purposes: &[Purpose]| {
            let mut params = CertificateParams::default();
            params.extended_key_usages = purposes.to_vec();
            may_be_a_clients(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
        };
        assert!(is_clients(&[]) && is_clients(&[Purpose::ServerAuth, Purpose::ClientAuth]));
        assert!(!is_clients(&[Purpose::ServerAuth]));
    }

    #[test]
    fn the_subject_is_written_as_java_writes_it() {
        use rcgen::{CertificateParams, DnType, KeyPair};
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "DE");
        params.distinguished_name.push(DnType::OrganizationName, "Example, Inc");
        params.distinguished_name.push(DnType::CommonName, "billing");
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(subject(certificate.der()).unwrap(), "CN=billing,O=Example\\, Inc,C=DE");
        assert_eq!(subject(b"no certificate"), None);
        let mail = DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]);
        params.distinguished_name.push(mail, "a@b");
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let written = subject(certificate.der()).unwrap();
        assert!(written.starts_with("1.2.840.113549.1.9.1=#0c03614062,CN=billing"), "{written}");
    }
}
