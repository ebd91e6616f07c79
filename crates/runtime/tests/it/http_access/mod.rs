//! The HTTP address of a service behind TLS and identities: who comes in, what they may, and how instances know each other.

mod company;
mod instances;
mod limits;
mod people;
mod start;
