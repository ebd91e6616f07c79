//! Certificates as a small company's own authority makes them.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
}

impl Authority {
    /// An authority whose certificate is `NAME-ca.pem` in a directory.
    pub fn new(directory: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an issuer");
        let authority = Self { issuer, directory: directory.to_owned() };
        std::fs::write(authority.trust(name), rcgen::Certificate::pem(authority.issuer.as_ref()))
            .expect("a file");
        authority
    }

    pub fn trust(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}-ca.pem"))
    }

    /// Key and certificate in one file, as `ssl.keystore.location` takes it.
    pub fn issue(&self, name: &str, hosts: &[&str]) -> PathBuf {
        self.issue_until(name, hosts, 4096)
    }

    /// One that ends with the year before.
    pub fn issue_until(&self, name: &str, hosts: &[&str], year: i32) -> PathBuf {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("names");
        params.distinguished_name = named(name);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &*self.issuer).expect("a certificate");
        let file = self.directory.join(format!("{name}.pem"));
        std::fs::write(&file, key.serialize_pem() + &certificate.pem()).expect("a file");
        file
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::OrganizationName, "Example");
    named.push(DnType::CommonName, name);
    named
}
