//! Requests that a page of another origin made a browser send: those that change something, and where anybody on this
//! machine may do everything, all that come by a name which that page's author may have pointed here.
//!
//! A browser adds the user's password to requests that any page makes. It also says which page that was, in `Origin`
//! and `Sec-Fetch-Site` (Fetch Metadata), which a page cannot change; other programs send neither.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, Uri, header};

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Where anybody on this machine may do everything, a name that points here is not believed, since any page's author
/// can make one: to the browser, what is here is then of that page's origin, and it reads what it likes.
pub fn named(headers: &HeaderMap) -> Result<(), &'static str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    if hosts.all(|host| host.to_str().is_ok_and(is_this_machine)) {
        return Ok(());
    }
    Err("this request came by a name that is not localhost; use http://127.0.0.1 and the same port")
}

/// Of requests that change something.
pub fn check(headers: &HeaderMap) -> Result<(), &'static str> {
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

    fn of(headers: &[(&'static str, &str)]) -> HeaderMap {
        headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn checked(headers: &[(&'static str, &str)]) -> bool {
        check(&of(headers)).is_ok()
    }

    #[test]
    fn only_pages_of_this_origin_change_something() {
        assert!(checked(&[("host", "node:8081")]), "a program");
        assert!(checked(&[("host", "node:8081"), ("origin", "https://node:8081")]));
        for foreign in ["https://evil.example", "https://node:9", "null", "https://node:8081.evil.example"] {
            assert!(!checked(&[("host", "node:8081"), ("origin", foreign)]), "{foreign}");
        }
        for site in ["cross-site", "same-site"] {
            assert!(!checked(&[("host", "node:8081"), ("sec-fetch-site", site)]), "{site}");
        }
        assert!(checked(&[("host", "node:8081"), ("sec-fetch-site", "same-origin")]));
    }

    #[test]
    fn a_name_that_somebody_points_here_is_not_this_machine() {
        for host in ["127.0.0.1:8081", "localhost:8081", "LOCALHOST", "[::1]:8081"] {
            assert!(named(&of(&[("host", host)])).is_ok(), "{host}");
        }
        for host in ["evil.example:8081", "localhost.evil.example", "headwater:8081", ""] {
            assert!(named(&of(&[("host", host)])).is_err(), "{host}");
        }
        assert!(named(&HeaderMap::new()).is_ok(), "a program that says no name");
    }
}
