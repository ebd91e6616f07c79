//! Who may ask over HTTP, and how they say who they are: a client's certificate, or a user and a password.
//!
//! Owns the settings ([`HttpAccess`]), the door that every connection and request comes through, and what an instance asks
//! the others by. Made of what the broker's listeners are made of. Refuses to know paths: `http::admit` says which need what.
//!
//! Invariant: where identities are asked for, nobody is taken for anybody without a proof, on this connection or in this very
//! request; and an instance believes another one only by a certificate of an authority that it trusts, for the name that was
//! asked and of a principal that is an instance.

mod allowed;
mod asker;
mod door;
mod settings;

pub(crate) use asker::Asker;
pub(crate) use door::{Door, Need, Places};
pub use settings::{HttpAccess, HttpAccessError};
