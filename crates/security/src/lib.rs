//! Who is at the other end: what the broker and our client both need for TLS and SASL.
//!
//! Owns Kafka's security protocols, PEM material, trust in a server's certificate, connections with and without TLS,
//! SCRAM's arithmetic from both sides, and what a server knows of those who connect. Refuses decisions: which listener
//! wants what is the broker's, which server is asked is the client's.
//!
//! Invariant: a secret is never in what `Debug` or an error shows.

mod jaas;
mod keystore;
mod pem;
mod properties;
mod protocol;
pub mod scram;
mod secret;
pub mod server;
mod stream;
mod verifier;

pub use jaas::{JaasError, Login};
pub use pem::{Certificates, Identity, PemError, provider, trust, trusted};
pub use properties::{PropertiesError, lines};
pub use protocol::{Mechanism, SecurityProtocol};
pub use rustls;
pub use scram::{ScramCredential, ScramMechanism};
pub use secret::{Secret, SecretError, random_bytes, random_text, same, seal};
pub use stream::{Reading, Stream, Writing};
pub use tokio_rustls::{TlsAcceptor, TlsConnector};
pub use verifier::ServerVerifier;
