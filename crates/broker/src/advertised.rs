//! The address that clients are told to connect to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::StartError;

#[derive(Debug, Clone)]
pub struct Advertised {
    /// `None`: whatever address the client came to.
    fixed: Option<(String, u16)>,
    bound: SocketAddr,
}

impl Advertised {
    pub fn new(wanted: Option<&str>, bound: SocketAddr) -> Result<Self, StartError> {
        let fixed = match wanted {
            None => None,
            Some(text) => {
                let split = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
                let (host, port) = split
                    .filter(|(host, _)| !host.is_empty())
                    .ok_or(StartError::Advertised(text.to_owned()))?;
                Some((host.trim_matches(['[', ']']).to_owned(), if port == 0 { bound.port() } else { port }))
            }
        };
        Ok(Self { fixed, bound })
    }

    /// Host and port for a client that connected to `local`.
    pub fn to(&self, local: SocketAddr) -> (String, i32) {
        match &self.fixed {
            Some((host, port)) => (host.clone(), i32::from(*port)),
            None => (local.ip().to_canonical().to_string(), i32::from(local.port())),
        }
    }

    /// `HOST:PORT` for a client on this machine or, when an address is advertised, anywhere.
    pub fn bootstrap(&self) -> String {
        if let Some((host, port)) = &self.fixed {
            return if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        }
        let ip =
            if self.bound.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { self.bound.ip() };
        SocketAddr::new(ip, self.bound.port()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_sent_back_to_where_they_came() {
        let bound = "0.0.0.0:4000".parse().unwrap();
        let advertised = Advertised::new(None, bound).unwrap();
        assert_eq!(advertised.to("10.0.0.7:4000".parse().unwrap()), ("10.0.0.7".to_owned(), 4000));
        assert_eq!(advertised.bootstrap(), "127.0.0.1:4000");
    }

    #[test]
    fn an_advertised_address_is_told_to_everybody() {
        let bound = "0.0.0.0:4000".parse().unwrap();
        let advertised = Advertised::new(Some("kafka.example:9092"), bound).unwrap();
        assert_eq!(advertised.to("10.0.0.7:4000".parse().unwrap()), ("kafka.example".to_owned(), 9092));
        assert_eq!(advertised.bootstrap(), "kafka.example:9092");
        assert!(Advertised::new(Some("kafka.example"), bound).is_err());
    }
}
