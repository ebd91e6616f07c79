//! Asks services what their stores hold. An entry of the catalog is a claim that anybody may have written who may write
//! there: it says whom to ask, and decides nothing else.
//!
//! Invariant: nothing is passed on but the word of a service that says of itself that it is the group whose stores were
//! asked for, as its own runtime does, and nothing is asked beyond `/stores/STORE` at an address of a network of services.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::http::StatusCode;
use headwater_client::HttpSecurity;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Url};

/// By which the console says whom it means to ask, and a service who it is.
pub const GROUP: &str = "headwater-group";
/// Of what a service answers.
const LONGEST_ANSWER: usize = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no answer. What stands at an address that is no service's is not told: neither what it says nor whether
/// anything is there.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    Address(String),
    NoService { base: String, group: String },
    TooLong,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(base) => write!(
                f,
                "the catalog says that it answers at '{base}', which no service is asked at: that is http:// or https://, a host, a port and no path, and neither a link-local nor a multicast address"
            ),
            Self::NoService { base, group } => write!(
                f,
                "no service of the group {group} answers at {base}: is it running, by this version or a later one, and reachable from here?"
            ),
            Self::TooLong => write!(f, "the service answers with more than {LONGEST_ANSWER} bytes"),
        }
    }
}

/// What services are asked by: at the address itself, and at nothing that it points to.
///
/// Only TLS is taken of the settings: a password or a token would go to whoever has written an address into the catalog.
pub fn client(security: &HttpSecurity) -> Result<Client, reqwest::Error> {
    security
        .over(Client::builder())
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(PATIENCE)
        .dns_resolver(std::sync::Arc::new(Reachable))
        .build()
}

/// What the service of the group says of a store.
pub async fn ask(
    http: &Client,
    (base, group): (&str, &str),
    store: &str,
    query: Option<&str>,
) -> Result<(StatusCode, Vec<u8>), Refused> {
    let url = store_url(base, store, query).ok_or_else(|| Refused::Address(base.to_owned()))?;
    let nobody = || Refused::NoService { base: base.to_owned(), group: group.to_owned() };
    let answer = http.get(url).header(GROUP, group).send().await.map_err(|error| {
        tracing::debug!(base, group, %error, "a service was not reached");
        nobody()
    })?;
    if answer.headers().get(GROUP).map(|value| value.as_bytes()) != Some(group.as_bytes()) {
        return Err(nobody());
    }
    let status = StatusCode::from_u16(answer.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
    Ok((status, whole(answer).await.map_err(|too_long| if too_long { Refused::TooLong } else { nobody() })?))
}

/// The body of an answer; an error says whether it is too long.
async fn whole(mut answer: reqwest::Response) -> Result<Vec<u8>, bool> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|_| false)? {
        if body.len() + chunk.len() > LONGEST_ANSWER {
            return Err(true);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Where a service answers for a store; the name is one segment of the path, whatever is in it.
fn store_url(base: &str, store: &str, query: Option<&str>) -> Option<Url> {
    let mut url = Url::parse(base).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    let host = url.host_str()?.trim_matches(['[', ']']);
    let reachable = host.parse::<IpAddr>().map_or(true, may_be_a_service);
    // As segments of a path these are steps in it.
    let is_name = !store.is_empty() && !matches!(store, "." | "..");
    if !(bare && anonymous && reachable && is_name) {
        return None;
    }
    url.path_segments_mut().ok()?.pop_if_empty().extend(["stores", store]);
    url.set_query(query);
    Some(url)
}

/// Link-local addresses are those of a cloud's own services, which give keys to who asks.
fn may_be_a_service(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => {
            let metadata = ip == Ipv4Addr::new(100, 100, 100, 200);
            !(ip.is_link_local() || ip.is_multicast() || ip.is_broadcast() || ip.is_unspecified() || metadata)
        }
        IpAddr::V6(ip) => {
            let metadata = ip.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254];
            !(ip.is_unicast_link_local() || ip.is_multicast() || ip.is_unspecified() || metadata)
        }
    }
}

/// Names lead where addresses do, when they are asked, too.
struct Reachable;

impl Resolve for Reachable {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.filter(|address| may_be_a_service(address.ip())).collect();
            if found.is_empty() {
                return Err(io::Error::other("it has no address that services are asked at").into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_asked_by_http_for_a_store_and_nothing_else() {
        let url = |base| store_url(base, "a/b", Some("key=1")).map(String::from);
        let asked = Some("http://127.0.0.1:7000/stores/a%2Fb?key=1");
        assert_eq!(url("http://127.0.0.1:7000/").as_deref(), asked);
        assert_eq!(url("http://127.0.0.1:7000").as_deref(), asked);
        assert!(url("https://service:7000").is_some() && url("http://[::1]:7000").is_some());
        for other in [
            "ftp://service/",
            "file:///etc/passwd",
            "service:7000",
            "",
            "http://service/admin",
            "http://service/?a=b",
            "http://service/#a",
            "http://user:password@service/",
            "http://169.254.169.254",
            "http://[fe80::1]:80",
            "http://[::ffff:169.254.169.254]",
            "http://0x a9fea9fe/",
            "http://2852039166/",
            "http://0.0.0.0:80",
            "http://224.0.0.1",
            "http://100.100.100.200",
            "http://[fd00:ec2::254]",
        ] {
            assert_eq!(url(other), None, "{other}");
        }
        for step in ["", ".", ".."] {
            assert_eq!(store_url("http://service", step, None), None, "{step:?}");
        }
    }

    #[tokio::test]
    async fn a_name_leads_nowhere_else() {
        let resolved = |name: &str| Reachable.resolve(name.parse().unwrap());
        assert!(resolved("localhost").await.is_ok());
        assert!(resolved("169.254.169.254").await.is_err());
    }
}
