//! The attributes of SCRAM's messages: `a=…,b=…`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::ScramError;

/// The value of the attribute `name`, which must come next; what is after it.
pub fn take<'a>(text: &'a str, name: &'static str) -> Result<(&'a str, &'a str), ScramError> {
    let rest = text.strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
    let rest = rest.ok_or(ScramError::Malformed(name))?;
    Ok(rest.split_once(',').unwrap_or((rest, "")))
}

pub fn text<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a str, ScramError> {
    std::str::from_utf8(bytes).map_err(|_| ScramError::Malformed(what))
}

pub fn decode(text: &str, what: &'static str) -> Result<Vec<u8>, ScramError> {
    BASE64_STANDARD.decode(text).map_err(|_| ScramError::Malformed(what))
}

pub fn encode(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// `saslname` of the RFC.
pub fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

pub fn unescape(name: &str) -> Result<String, ScramError> {
    let mut plain = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('=') {
        plain.push_str(before);
        let (character, after) = match (after.strip_prefix("2C"), after.strip_prefix("3D")) {
            (Some(after), _) => (',', after),
            (_, Some(after)) => ('=', after),
            _ => return Err(ScramError::Malformed("n")),
        };
        plain.push(character);
        rest = after;
    }
    plain.push_str(rest);
    Ok(plain)
}

pub fn xor(one: &[u8], other: &[u8]) -> Vec<u8> {
    one.iter().zip(other).map(|(one, other)| one ^ other).collect()
}
