//! A list of principals, as Kafka's `super.users` is written: `User:alice;User:CN=console,O=Example`.

use headwater_model::Principal;

/// Everybody, as in Kafka's rules: also who does not say who they are.
const EVERYBODY: &str = "*";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Allowed(Vec<Principal>);

impl Allowed {
    pub fn of(principal: Principal) -> Self {
        Self(vec![principal])
    }

    /// `None` for what is no list.
    pub fn parse(text: &str) -> Option<Self> {
        let named = text.split(';').map(str::trim).filter(|item| !item.is_empty());
        named.map(Principal::parse).collect::<Option<_>>().map(Self)
    }

    pub fn includes(&self, principal: &Principal) -> bool {
        self.0.iter().any(|one| one == principal || (one.kind == principal.kind && one.name == EVERYBODY))
    }

    pub fn includes_strangers(&self) -> bool {
        self.includes(&Principal::anonymous())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_of_principals_and_a_star_is_everybody() {
        let list = Allowed::parse(" User:alice; User:CN=console,O=Example ;").unwrap();
        assert!(list.includes(&Principal::user("CN=console,O=Example")));
        assert!(list.includes(&Principal::user("alice")) && !list.includes(&Principal::user("Alice")));
        assert!(!list.includes_strangers());
        let everybody = Allowed::parse("User:*").unwrap();
        assert!(everybody.includes(&Principal::user("alice")) && everybody.includes_strangers());
        assert!(!Allowed::parse("").unwrap().includes_strangers());
        for wrong in ["alice", "User:", "User:alice;bob", ":x"] {
            assert_eq!(Allowed::parse(wrong), None, "{wrong}");
        }
    }
}
