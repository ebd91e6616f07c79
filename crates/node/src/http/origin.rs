//! Requests that change something and that a page of another origin made a browser send.
//!
//! A browser adds the user's password to requests that any page makes. It also says which page that was, in `Origin`
//! and `Sec-Fetch-Site` (Fetch Metadata), which a page cannot change; other programs send neither.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, Uri, header};

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// `rebound` where anybody on this machine may do everything: there, a name that points here is not believed, since
/// any page's author can make one.
pub fn check(headers: &HeaderMap, rebound: bool) -> Result<(), &'static str> {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(site) = text(&SITE)
        && !matches!(site, "same-origin" | "none")
    {
        return Err("a page of another origin made this request");
    }
    let Some(origin) = text(&header::ORIGIN) else { return Ok(()) };
    let host = text(&header::HOST).unwrap_or_default();
    let from = origin.parse::<Uri>().ok().and_then(|uri| uri.authority().map(|one| one.to_string()));
    if from.as_deref() != Some(host) {
        return Err("a page of another origin made this request");
    }
    if rebound && !is_this_machine(host) {
        return Err("a page made this request by a name that is not localhost; use http://127.0.0.1");
    }
    Ok(())
}

fn is_this_machine(authority: &str) -> bool {
    let Ok(uri) = format!("http://{authority}/").parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(headers: &[(&'static str, &str)], rebound: bool) -> bool {
        let each =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        check(&each.collect(), rebound).is_ok()
    }

    #[test]
    fn only_pages_of_this_origin_change_something() {
        assert!(checked(&[("host", "node:8081")], false), "a program");
        assert!(checked(&[("host", "node:8081"), ("origin", "https://node:8081")], false));
        for foreign in ["https://evil.example", "https://node:9", "null", "https://node:8081.evil.example"] {
            assert!(!checked(&[("host", "node:8081"), ("origin", foreign)], false), "{foreign}");
        }
        for site in ["cross-site", "same-site"] {
            assert!(!checked(&[("host", "node:8081"), ("sec-fetch-site", site)], false), "{site}");
        }
        assert!(checked(&[("host", "node:8081"), ("sec-fetch-site", "same-origin")], false));
    }

    #[test]
    fn a_name_that_somebody_points_here_is_not_this_machine() {
        let page = |host: &str| checked(&[("host", host), ("origin", &format!("http://{host}"))], true);
        assert!(page("127.0.0.1:8081") && page("localhost:8081") && page("[::1]:8081"));
        assert!(!page("evil.example:8081") && !page("localhost.evil.example"));
        assert!(checked(&[("host", "headwater:8081")], true), "a program by a name of its own");
    }
}
