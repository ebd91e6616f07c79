//! Requests that a page of another origin made a browser send: those that change something, and where nobody is asked who they
//! are, all that come by a name of its own that it leads to this machine.
//!
//! A browser adds the user's password or certificate to requests that any page makes. It also says which page that was, in
//! `Origin` and `Sec-Fetch-Site` (Fetch Metadata), which a page cannot change; other programs send neither.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, Uri, header};

/// Of requests that change something.
pub(super) fn check(headers: &HeaderMap) -> Result<(), &'static str> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let foreign = Err("a page of another origin made this request");
    if text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return foreign;
    }
    let Some(origin) = text(header::ORIGIN.as_str()) else { return Ok(()) };
    let from = origin.parse::<Uri>().ok().and_then(|uri| uri.authority().map(ToString::to_string));
    if from.as_deref() == text(header::HOST.as_str()) && from.is_some() { Ok(()) } else { foreign }
}

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
    fn only_pages_of_this_origin_change_something() {
        let checked = |headers: &[(&'static str, &str)]| {
            let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            check(&headers.collect::<HeaderMap>()).is_ok()
        };
        assert!(checked(&[("host", "orders:7071")]), "a program");
        assert!(checked(&[("host", "orders:7071"), ("origin", "https://orders:7071")]));
        assert!(checked(&[("host", "orders:7071"), ("sec-fetch-site", "same-origin")]));
        for foreign in
            ["https://evil.example", "https://orders:9", "null", "https://orders:7071.evil.example"]
        {
            assert!(!checked(&[("host", "orders:7071"), ("origin", foreign)]), "{foreign}");
        }
        assert!(!checked(&[("origin", "null")]) && !checked(&[("sec-fetch-site", "same-site")]));
    }

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
