//! What a server knows of those who connect: its TLS, whom a certificate names, users and their passwords, and the places
//! of those who have not said who they are.
//!
//! The broker's listeners, the node's HTTP address and that of a streams service are all made of this.

mod authorization;
mod checked;
mod mapping;
mod name;
mod strangers;
mod tls;
mod users;
mod watched;

pub use authorization::{Authorization, Unauthenticated};
pub use checked::{Checked, Derivations};
pub use mapping::{Mapping, MappingError};
pub use name::{may_be_a_clients, subject};
pub use strangers::{Stranger, Strangers};
pub use tls::{ClientAuth, ServerTls, TlsError, authorities, client_auth, identity};
pub use users::{Users, UsersError, credential};
pub use watched::Watched;

/// What a stranger has said, fit for the log and the audit stream: so many characters of it, on one line.
pub fn told(text: &str, longest: usize) -> String {
    let shown = |one: char| if one.is_control() { char::REPLACEMENT_CHARACTER } else { one };
    text.chars().take(longest).map(shown).collect()
}
