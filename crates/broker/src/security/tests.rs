use std::path::Path;

use headwater_security::rustls::ClientConfig as TlsClient;
use headwater_security::rustls::pki_types::ServerName;
use headwater_security::{Identity, TlsConnector, provider, trust};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::*;

fn issue(directory: &Path, ca: &CertifiedIssuer<'static, KeyPair>, name: &str) -> std::path::PathBuf {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Example");
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &**ca).unwrap();
    let file = directory.join(format!("{name}.pem"));
    std::fs::write(&file, key.serialize_pem() + &certificate.pem()).unwrap();
    file
}

/// An authority, and its certificate.
fn company() -> (CertifiedIssuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let authorities = rcgen::Certificate::pem(ca.as_ref());
    (ca, authorities)
}

/// For a server of the authority, whose clients it trusts.
fn trusting(
    directory: &Path,
    (ca, authorities): &(CertifiedIssuer<'static, KeyPair>, String),
) -> SecurityConfig {
    let mut config = SecurityConfig::default();
    config.put("ssl.keystore.location", issue(directory, ca, "server").display().to_string());
    config.put("ssl.truststore.certificates", authorities.clone());
    config
}

async fn principal(rules: &str, shows: bool) -> Principal {
    let settings = [("ssl.client.auth", "requested"), ("ssl.principal.mapping.rules", rules)];
    secured(SecurityProtocol::Ssl, &settings, shows).await.unwrap()
}

/// Whom a listener takes a client for that shows the certificate of `Billing`, or none.
async fn secured(
    protocol: SecurityProtocol,
    settings: &[(&str, &str)],
    shows: bool,
) -> std::io::Result<Principal> {
    let dir = tempfile::tempdir().unwrap();
    let company = company();
    let mut config = trusting(dir.path(), &company);
    settings.iter().for_each(|(key, value)| config.put(key, (*value).to_owned()));
    let (ca, authorities) = company;
    let authority = Authority::new(&config, Arc::default()).unwrap();
    let of = ListenerConfig {
        name: "SSL".to_owned(),
        protocol,
        host: "127.0.0.1".to_owned(),
        port: 0,
        advertised: None,
    };
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let listener = Listener::new(&of, Advertised::new(None, address).unwrap(), &authority).unwrap();
    let client = TlsClient::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trust("ca", authorities.as_bytes(), None).unwrap());
    let client = match shows {
        false => client.with_no_client_auth(),
        true => {
            let pem = std::fs::read(issue(dir.path(), &ca, "Billing")).unwrap();
            let identity = Identity::read(("client", &pem), ("client", &pem), None).unwrap();
            client.with_client_auth_cert(identity.chain, identity.key).unwrap()
        }
    };
    let connecting = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap();
        // Until the other side has seen all there is to see.
        let _ = stream.read_u8().await;
    };
    let accepting = async {
        let (stream, _) = socket.accept().await.unwrap();
        listener.secure(stream).await.map(|(_, principal)| principal)
    };
    tokio::join!(connecting, accepting).1
}

#[tokio::test]
async fn a_client_is_who_its_certificate_says_by_the_rules() {
    assert_eq!(principal("", true).await, Principal::user("CN=Billing,O=Example"));
    assert_eq!(principal("RULE:^CN=(.*?),.*$/$1/L", true).await, Principal::user("billing"));
    assert_eq!(principal("", false).await, Principal::anonymous());
}

#[tokio::test]
async fn a_certificate_that_no_rule_is_about_lets_nobody_in() {
    let others = "RULE:^CN=other$/x/";
    let rules = ("ssl.principal.mapping.rules", others);
    let requested = [("ssl.client.auth", "requested"), rules];
    let refused = secured(SecurityProtocol::Ssl, &requested, true).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    let said = refused.to_string();
    assert!(
        said.contains("ssl.principal.mapping.rules") && said.contains("'CN=Billing,O=Example'"),
        "{said}"
    );
    assert_eq!(principal(others, false).await, Principal::anonymous(), "who shows none needs no rule");
    // The user of SASL counts there.
    let requested = [("listener.name.ssl.ssl.client.auth", "requested"), rules];
    let by_sasl = secured(SecurityProtocol::SaslSsl, &requested, true).await.unwrap();
    assert_eq!(by_sasl, Principal::anonymous());
}

#[tokio::test]
async fn clients_with_sasl_show_certificates_only_where_their_own_listener_says_so() {
    let (all, own) = (("ssl.client.auth", "required"), ("listener.name.ssl.ssl.client.auth", "required"));
    assert!(secured(SecurityProtocol::Ssl, &[all], false).await.is_err());
    assert!(secured(SecurityProtocol::SaslSsl, &[own], false).await.is_err());
    assert!(secured(SecurityProtocol::SaslSsl, &[all], false).await.is_ok());
}

#[test]
fn a_start_says_of_which_clients_certificates_are_not_asked() {
    let dir = tempfile::tempdir().unwrap();
    let said = |keys: &[&str]| {
        let mut config = trusting(dir.path(), &company());
        keys.iter().for_each(|key| config.put(key, "required".to_owned()));
        let authority = Authority::new(&config, Arc::default()).unwrap();
        let of = ListenerConfig {
            name: "CLIENTS".to_owned(),
            protocol: SecurityProtocol::SaslSsl,
            host: "127.0.0.1".to_owned(),
            port: 0,
            advertised: None,
        };
        let bound = "127.0.0.1:9093".parse().unwrap();
        let listener = Listener::new(&of, Advertised::new(None, bound).unwrap(), &authority).unwrap();
        let said = advice(&authority, &[&listener]);
        said.iter().any(|one| one.contains("listener.name.clients.ssl.client.auth=required"))
    };
    assert!(said(&["ssl.client.auth"]));
    assert!(!said(&["ssl.client.auth", "listener.name.clients.ssl.client.auth"]) && !said(&[]));
}

#[test]
fn a_keystore_that_is_not_there_is_named_with_its_key() {
    let mut config = SecurityConfig::default();
    config.put("ssl.keystore.location", "/nowhere/keystore.pem".to_owned());
    let refused = ServerTls::load("SSL", &|key| config.of_listener("SSL", key))
        .err()
        .expect("it is refused")
        .to_string();
    assert!(refused.contains("ssl.keystore.location=/nowhere/keystore.pem"), "{refused}");
}

fn sasl(file: Option<&Path>) -> (Authority, Listener) {
    let mut config = SecurityConfig::default();
    if let Some(file) = file {
        config.put("headwater.sasl.users.file", file.display().to_string());
    }
    let authority = Authority::new(&config, Arc::default()).unwrap();
    let of = ListenerConfig {
        name: "CLIENTS".to_owned(),
        protocol: SecurityProtocol::SaslPlaintext,
        host: "127.0.0.1".to_owned(),
        port: 0,
        advertised: None,
    };
    let bound = "127.0.0.1:9092".parse().unwrap();
    let listener = Listener::new(&of, Advertised::new(None, bound).unwrap(), &authority).unwrap();
    (authority, listener)
}

#[test]
fn a_start_says_when_nobody_can_come_in_and_when_everybody_can_read_passwords() {
    use std::os::unix::fs::PermissionsExt;
    let said = |file: Option<&Path>| {
        let (authority, listener) = sasl(file);
        advice(&authority, &[&listener])
    };
    let [nobody] = &said(None)[..] else { panic!("one thing is said") };
    assert!(nobody.contains("CLIENTS") && nobody.contains("headwater.sasl.users.file"), "{nobody}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("users");
    let written = |text: &str, mode: u32| {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    written("# nobody yet\n", 0o600);
    assert!(said(Some(&file))[0].contains("write a line USER=PASSWORD into"));
    written("alice=secret\n", 0o600);
    assert_eq!(said(Some(&file)), Vec::<String>::new());
    written("alice=secret\n", 0o644);
    let [readable] = &said(Some(&file))[..] else { panic!("one thing is said") };
    assert!(readable.contains("chmod 600"), "{readable}");
    // The broker keeps users, too.
    let (authority, listener) = sasl(None);
    let credential = credential(ScramMechanism::Sha256, "secret").unwrap();
    authority.credentials.put("bob", ScramMechanism::Sha256, credential);
    assert_eq!(advice(&authority, &[&listener]), Vec::<String>::new());
}

#[test]
fn a_start_says_which_keys_are_for_a_listener_that_is_not_there() {
    let (_, listener) = sasl(None);
    let mut config = SecurityConfig::default();
    for name in ["clients", "client", "http"] {
        let key = format!("listener.name.{name}.sasl.enabled.mechanisms");
        assert!(config.put_of_listener(&key, "SCRAM-SHA-512"));
    }
    let authority = Authority::new(&config, Arc::default()).unwrap();
    let said = advice(&authority, &[&listener]);
    let about = |name: &str| said.iter().any(|one| one.contains(&format!("listener.name.{name}.")));
    assert!(about("client") && !about("clients") && !about("http"), "{said:?}");
}
