//! What strangers send before they have said who they are: SCRAM from both sides.

use std::num::NonZeroU32;

use headwater_security::scram::{ClientFirst, ScramClient, ScramServer};
use headwater_security::{Login, ScramCredential, ScramMechanism, Secret};

const NONCE: &str = "server-nonce";

/// The first byte chooses; a zero byte stands between two messages.
pub fn sasl(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let mechanism = if choice & 1 == 0 { ScramMechanism::Sha256 } else { ScramMechanism::Sha512 };
    let mut messages = rest.splitn(2, |byte| *byte == 0);
    let (first, second) = (messages.next().unwrap_or_default(), messages.next().unwrap_or_default());
    match choice >> 1 & 3 {
        0 => server(mechanism, first, second),
        1 => client(mechanism, first, second),
        _ => {
            if let Ok(text) = std::str::from_utf8(rest) {
                let _ = Login::parse(text);
            }
        }
    }
}

/// Nobody gets in who does not know the password, which no input contains.
fn server(mechanism: ScramMechanism, first: &[u8], last: &[u8]) {
    let Ok(first) = ClientFirst::parse(first) else { return };
    let credential = ScramCredential::pretended(mechanism, &first.user, b"of the fuzzer");
    let (server, _) = ScramServer::challenge(mechanism, &first, credential, NONCE);
    assert!(server.finish(last).is_err(), "a proof of a password that nobody has");
}

fn client(mechanism: ScramMechanism, challenge: &[u8], last: &[u8]) {
    let iterations = iterations(challenge);
    // What it would cost is bounded by the client; here it would only be slow.
    if iterations.is_some_and(|iterations| iterations.get() > 10_000) {
        return;
    }
    let client = ScramClient::new(mechanism, "user", Secret::new("password"), "nonce".to_owned());
    if let Ok((proved, _)) = client.prove(challenge) {
        assert!(proved.verify(last).is_err(), "a server that does not know the password is believed");
    }
}

fn iterations(challenge: &[u8]) -> Option<NonZeroU32> {
    let text = std::str::from_utf8(challenge).ok()?;
    text.rsplit_once("i=")?.1.split(',').next()?.parse().ok()
}
