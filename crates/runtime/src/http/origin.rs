//! Requests that a page of another origin made a browser send: by a name of its own that it leads to this machine.

use std::net::{IpAddr, SocketAddr};

/// Whether a request with this `Host` may be answered. On an address of this machine only this machine's names, and the one that
/// was given to the instance, are meant; elsewhere a name may be any.
pub(super) fn is_meant(listens: Option<SocketAddr>, own: Option<&str>, host: Option<&str>) -> bool {
    let Some(host) = host else { return true };
    let is_local = listens.is_some_and(|address| address.ip().is_loopback());
    if !is_local || own == Some(host) {
        return true;
    }
    let name = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next(),
        None => host.split(':').next(),
    };
    name.is_some_and(|name| name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_name_for_this_machine_is_not_meant() {
        let here: Option<SocketAddr> = Some("127.0.0.1:7071".parse().unwrap());
        for host in ["127.0.0.1:7071", "localhost:7071", "LOCALHOST", "[::1]:7071", "own.example:7071"] {
            assert!(is_meant(here, Some("own.example:7071"), Some(host)), "{host}");
        }
        for host in ["evil.example:7071", "localhost.evil.example", ""] {
            assert!(!is_meant(here, None, Some(host)), "{host}");
        }
        let everywhere: Option<SocketAddr> = Some("0.0.0.0:7071".parse().unwrap());
        assert!(is_meant(everywhere, None, Some("service.internal:7071")) && is_meant(here, None, None));
    }
}
