//! What a start says of a configuration that is legal and hardly meant.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use headwater_security::SecurityProtocol;

use super::config::CLIENT_AUTH;
use super::{Authority, INTERNAL, Listener};

/// Each with the next step.
pub fn of_start(authority: &Authority, listeners: &[&Listener]) -> Vec<String> {
    let mut advice = Vec::new();
    let file = authority.config.text("headwater.sasl.users.file");
    let knows_somebody =
        !authority.users.is_empty() || !authority.credentials.is_empty() || authority.tokens.are_known();
    let asks = |listener: &&Listener| listener.protocol.is_sasl() && listener.name != INTERNAL;
    if let Some(listener) = listeners.iter().copied().find(asks).filter(|_| !knows_somebody) {
        let other = listeners.iter().find(|other| !other.protocol.is_sasl());
        let other = other.map_or_else(String::new, |other| {
            format!(", or add a user by the listener {}: headwater user add", other.name)
        });
        let next = match file {
            Some(file) => format!("write a line USER=PASSWORD into {file}"),
            None => "name a file with a line USER=PASSWORD by headwater.sasl.users.file".to_owned(),
        };
        let name = &listener.name;
        advice.push(format!(
            "the listener {name} asks clients who they are, and no user is known, so nobody can come in by it: {next}{other}"
        ));
    }
    // A typing mistake, and a listener does without what was meant to guard it.
    let known = |name: &str| {
        name == "http" || listeners.iter().any(|listener| listener.name.eq_ignore_ascii_case(name))
    };
    for name in authority.config.named_listeners() {
        if !known(name) {
            let names = listeners.iter().map(|listener| listener.name.as_str());
            let names = names.filter(|name| *name != INTERNAL).collect::<Vec<_>>().join(", ");
            advice.push(format!(
                "keys begin with listener.name.{name}. and count for no listener, as there is none of that name: there are {names}, and HTTP"
            ));
        }
    }
    let asked = authority.config.text(CLIENT_AUTH).filter(|auth| *auth != "none");
    let shows_none = |listener: &&Listener| {
        let own = authority.config.own(&listener.name, CLIENT_AUTH);
        listener.protocol == SecurityProtocol::SaslSsl && own.is_none()
    };
    if let (Some(auth), Some(listener)) = (asked, listeners.iter().copied().find(shows_none)) {
        let (name, key) = (&listener.name, listener.name.to_ascii_lowercase());
        advice.push(format!(
            "{CLIENT_AUTH}={auth} is not for the listener {name}, as its clients come by SASL: say listener.name.{key}.{CLIENT_AUTH}={auth} if they are to show certificates, too"
        ));
    }
    if let Some(file) = file.filter(|file| is_for_everybody(Path::new(file))) {
        advice.push(format!(
            "headwater.sasl.users.file={file} has passwords in it, and every user of this machine can read it: chmod 600 {file}"
        ));
    }
    advice
}

fn is_for_everybody(file: &Path) -> bool {
    const OTHERS_READ: u32 = 0o004;
    std::fs::metadata(file).is_ok_and(|found| found.permissions().mode() & OTHERS_READ != 0)
}
