//! The drivers' way in when they are to speak TLS: a listener beside the plain one, and one authority for both servers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::librdkafka::Drivers;
use super::server::Side;
use crate::kafka::{self, Prepared, secure};

/// Benchmarks whose drivers can.
pub const OFFERED: [&str; 7] =
    ["produce-unsynced", "produce-synced", "latency", "end-to-end", "consume", "transactions", "rebalance"];
/// What their cases are called then.
pub const SUFFIX: &str = ", TLS";

/// Certificates, and what clients are told of them.
pub struct Tls {
    dir: PathBuf,
}

impl Tls {
    pub fn new(work: &Path) -> Result<Self> {
        let dir = work.join("tls");
        fs::create_dir_all(&dir)?;
        secure::certificates(&dir)?;
        let trust = dir.join("ca.pem");
        let text = format!(
            "security.protocol=SSL\nssl.truststore.type=PEM\nssl.truststore.location={}\n",
            trust.display()
        );
        fs::write(dir.join("client.properties"), text)?;
        Ok(Self { dir })
    }

    fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Of Kafka's own tools.
    pub fn client_properties(&self) -> PathBuf {
        self.dir.join("client.properties")
    }

    /// librdkafka's programs with what they have to be told; it is the same process afterwards.
    pub fn drivers(&self, plain: &Drivers) -> Result<Drivers> {
        let told = |program: &Path| -> Result<PathBuf> {
            let name = program.file_name().context("a program has a name")?;
            let path = self.dir.join(name);
            let (program, trust) = (program.display(), self.file("ca.pem"));
            let text = format!(
                "#!/bin/sh\nexec '{program}' \"$@\" -X security.protocol=ssl -X 'ssl.ca.location={trust}'\n"
            );
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            Ok(path)
        };
        Ok(Drivers {
            performance: told(&plain.performance)?,
            open_loop: told(&plain.open_loop)?,
            rebalance: told(&plain.rebalance)?,
            transactions: told(&plain.transactions)?,
        })
    }

    /// A server's settings, and the address that they serve TLS at beside `plain`.
    pub fn listener(
        &self,
        side: Side,
        plain: &str,
        prepared: Option<&Prepared>,
    ) -> Result<(String, Vec<(String, String)>)> {
        let address = format!("127.0.0.1:{}", kafka::free_port()?);
        let own = |key: &str, value: String| (key.to_owned(), value);
        let mut properties = vec![own("ssl.keystore.location", self.file("server.pem"))];
        if side == Side::Peer {
            properties.push(own("ssl.keystore.type", "PEM".to_owned()));
        }
        let both = format!("PLAINTEXT://{plain},SSL://{address}");
        let Some(prepared) = prepared else {
            properties.push(own("listeners", both));
            return Ok((address, properties));
        };
        let settings = fs::read_to_string(prepared.settings())?;
        for key in ["listeners", "advertised.listeners", "listener.security.protocol.map"] {
            let known = settings.lines().find_map(|line| line.strip_prefix(&format!("{key}=")));
            let Some(known) = known else { bail!("no {key} in {}", prepared.settings().display()) };
            let more =
                if key == "listener.security.protocol.map" { "SSL:SSL" } else { &format!("SSL://{address}") };
            properties.push(own(key, format!("{known},{more}")));
        }
        Ok((address, properties))
    }
}
