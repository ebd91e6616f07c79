//! Addresses of HTTP servers on the command line, and what it means when they do not answer.

use std::error::Error;

use headwater_client::{HttpSecurity, Proof, without_password};
use reqwest::{Method, RequestBuilder, Url};

use crate::output::{Failure, NO_PERMISSION, UNAVAILABLE, USAGE};

/// `http://HOST:PORT`, or https, as `origin` (a flag, a variable, an argument) has it.
pub fn base(text: &str, origin: &str) -> Result<Url, Failure> {
    let wrong = |why: String| {
        let shown = without_password(text);
        let example =
            if shown.is_empty() || shown.contains("://") { "127.0.0.1:8081" } else { shown.as_str() };
        Failure::new(
            USAGE,
            format_args!("{origin} {shown}: {why}"),
            format!("{origin} http://{example}, or https://… where the server has TLS"),
        )
    };
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        Ok(_) => Err(wrong("it is no URL of an HTTP server".to_owned())),
        Err(_) if !text.contains("://") => Err(wrong("it is no URL".to_owned())),
        Err(error) => Err(wrong(format!("it is no URL: {error}"))),
    }
}

/// The last cause, which says most.
pub fn cause(error: &reqwest::Error) -> String {
    let mut deepest: &dyn Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// What to do where the two sides speak differently; `None` where nobody seems to be there.
fn mismatch(url: &str, cause: &str) -> Option<String> {
    let place = url.split_once("://").map_or(url, |(_, rest)| rest);
    let place = place.split('/').next().unwrap_or(place);
    if cause.contains("UnknownIssuer") || cause.contains("self-signed") || cause.contains("CaUsedAsEndEntity")
    {
        return Some(
            "name the authority that signed its certificate: ssl.truststore.location (and ssl.truststore.type=PEM for a PEM file), or schema.registry.ssl.truststore.location, in the file of --command-config or HEADWATER_COMMAND_CONFIG"
                .to_owned(),
        );
    }
    if cause.contains("NotValidForName") {
        return Some("use a name that its certificate has, as the error tells them".to_owned());
    }
    if cause.contains("certificate") {
        return Some("have its certificate mended, as the error says".to_owned());
    }
    match url.starts_with("https") {
        true if cause.contains("InvalidContentType") || cause.contains("corrupt message") => {
            Some(format!("it has no TLS there: http://{place}"))
        }
        false if cause.contains("invalid HTTP version") => Some(format!(
            "it may have TLS there: https://{place}; or it is a Kafka listener, and HTTP is another one"
        )),
        _ => None,
    }
}

/// The failure of a request: `whom` was asked at `url`.
pub fn failed(whom: &str, url: &str, error: &reqwest::Error, otherwise: &str) -> Failure {
    let (cause, url) = (cause(error), without_password(url));
    match mismatch(&url, &cause) {
        Some(next) => {
            Failure::new(UNAVAILABLE, format_args!("{whom} at {url} cannot be asked: {cause}"), next)
        }
        None => Failure::new(
            UNAVAILABLE,
            format_args!("no {whom} answers at {url}: {cause}"),
            otherwise.to_owned(),
        ),
    }
}

/// The exit code of an answer that is none; `otherwise` where what was asked for is to blame.
fn code_of(status: u16, otherwise: u8) -> u8 {
    match status {
        401 | 403 => NO_PERMISSION,
        500.. => UNAVAILABLE,
        _ => otherwise,
    }
}

/// A server that is asked as whoever the file of `--command-config` says.
pub struct Asked<'a> {
    pub security: &'a HttpSecurity,
    /// What it is, for who reads an error, and what to do where nothing better is known.
    pub whom: &'a str,
    pub otherwise: &'a str,
}

impl Asked<'_> {
    fn failed(&self, url: &Url) -> impl Fn(reqwest::Error) -> Failure {
        move |error| failed(self.whom, url.as_str(), &error, self.otherwise)
    }

    /// A request that trusts, shows and proves what the settings say.
    pub async fn request(&self, method: Method, url: &Url) -> Result<RequestBuilder, Failure> {
        let client = self.security.client().map_err(self.failed(url))?;
        let proof = self.security.proof(url).await;
        let request = client.request(method, url.clone());
        Ok(match proof.map_err(|error| Failure::with_advice(UNAVAILABLE, error))? {
            Some(Proof::Basic { user, password }) => request.basic_auth(user, Some(password.reveal())),
            Some(Proof::Bearer(token)) => request.bearer_auth(token.reveal()),
            None => request,
        })
    }

    /// What it answers, if that is no problem (RFC 9457); `code` is of problems that are none of rights.
    pub async fn answer(&self, url: &Url, request: RequestBuilder, code: u8) -> Result<String, Failure> {
        let response = request.send().await.map_err(self.failed(url))?;
        let status = response.status();
        let text = response.text().await.map_err(self.failed(url))?;
        if status.is_success() {
            return Ok(text);
        }
        let problem: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let title = problem["title"].as_str().map_or_else(String::new, |title| format!(": {title}"));
        let detail = problem["detail"].as_str().unwrap_or(self.otherwise);
        let code = code_of(status.as_u16(), code);
        let url = without_password(url.as_str());
        Err(Failure::new(code, format!("{url} answers {status}{title}"), detail.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_must_be_one_of_http() {
        assert!(base("http://127.0.0.1:8081", "--http").is_ok());
        for wrong in ["foo", "127.0.0.1:8081", "ftp://there", "localhost:8081", ""] {
            let failure = base(wrong, "--http").expect_err(wrong);
            let next = failure.next.expect("advice");
            assert!(failure.what.contains("--http") && next.contains("http://"), "{next}");
        }
    }

    #[test]
    fn a_server_that_cannot_answer_is_told_from_what_is_not_there() {
        let codes = [401, 403, 404, 409, 500, 503].map(|status| code_of(status, 66));
        assert_eq!(codes, [NO_PERMISSION, NO_PERMISSION, 66, 66, UNAVAILABLE, UNAVAILABLE]);
    }

    #[test]
    fn what_speaks_otherwise_is_told_from_what_is_not_there() {
        let next = |url, cause| mismatch(url, cause).unwrap_or_default();
        let issuer = "invalid peer certificate: UnknownIssuer";
        assert!(next("https://there:8081/x", issuer).contains("ssl.truststore.location"));
        assert!(next("http://there:8081/x", "invalid HTTP version parsed").contains("https://there:8081"));
        let corrupt = "received corrupt message of type InvalidContentType";
        assert!(next("https://there:8081/x", corrupt).ends_with("http://there:8081"));
        assert_eq!(mismatch("http://there", "Connection refused (os error 111)"), None);
    }
}
