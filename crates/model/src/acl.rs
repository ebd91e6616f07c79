//! Access control in Kafka's words (KIP-11, KIP-290): who may do what with which resources, from where.
//!
//! Owns the names and their numbers on the wire; what they mean together is decided by the coordinator.

use std::fmt;

/// The name that stands for every resource, host or user.
pub const WILDCARD: &str = "*";
/// The principal that stands for every user.
pub const EVERYONE: &str = "User:*";
/// The name of the only resource of type CLUSTER.
pub const CLUSTER_NAME: &str = "kafka-cluster";

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $code:literal $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($variant,)*
        }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The number on the wire.
            pub fn code(self) -> i8 {
                match self {
                    $(Self::$variant => $code,)*
                }
            }

            /// `None` for a number that stands for no single one.
            pub fn from_code(code: i8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Kafka's spelling.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            /// Reads any spelling that differs only in case and in `-` for `_`.
            pub fn parse(text: &str) -> Option<Self> {
                let folded = text.replace('-', "_").to_ascii_uppercase();
                Self::ALL.iter().copied().find(|one| one.word() == folded)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }
    };
}

words! {
    ResourceType {
        Topic = 2 "TOPIC",
        Group = 3 "GROUP",
        Cluster = 4 "CLUSTER",
        TransactionalId = 5 "TRANSACTIONAL_ID",
        DelegationToken = 6 "DELEGATION_TOKEN",
        User = 7 "USER",
    }
}

words! {
    /// How the name of a pattern is compared with the name of a resource.
    PatternType {
        Literal = 3 "LITERAL",
        Prefixed = 4 "PREFIXED",
    }
}

words! {
    Operation {
        All = 2 "ALL",
        Read = 3 "READ",
        Write = 4 "WRITE",
        Create = 5 "CREATE",
        Delete = 6 "DELETE",
        Alter = 7 "ALTER",
        Describe = 8 "DESCRIBE",
        ClusterAction = 9 "CLUSTER_ACTION",
        DescribeConfigs = 10 "DESCRIBE_CONFIGS",
        AlterConfigs = 11 "ALTER_CONFIGS",
        IdempotentWrite = 12 "IDEMPOTENT_WRITE",
        CreateTokens = 13 "CREATE_TOKENS",
        DescribeTokens = 14 "DESCRIBE_TOKENS",
        TwoPhaseCommit = 15 "TWO_PHASE_COMMIT",
    }
}

words! {
    Permission {
        Deny = 2 "DENY",
        Allow = 3 "ALLOW",
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AclBinding {
    pub resource: ResourceType,
    pub name: String,
    pub pattern: PatternType,
    /// `TYPE:NAME`; [`EVERYONE`] for all.
    pub principal: String,
    /// An IP address; [`WILDCARD`] for all.
    pub host: String,
    pub operation: Operation,
    pub permission: Permission,
}

impl fmt::Display for AclBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource, name, pattern, principal, host, operation, permission } = self;
        write!(f, "{permission} {principal} from {host} to {operation} {resource}:{pattern}:{name}")
    }
}

/// How the patterns of rules are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PatternFilter {
    /// Those that have the name, whatever their type.
    #[default]
    Any,
    /// Those that apply to a resource of the name.
    Match,
    Exactly(PatternType),
}

impl PatternFilter {
    const ANY: i8 = 1;
    const MATCH: i8 = 2;

    pub fn code(self) -> i8 {
        match self {
            Self::Any => Self::ANY,
            Self::Match => Self::MATCH,
            Self::Exactly(pattern) => pattern.code(),
        }
    }

    pub fn from_code(code: i8) -> Option<Self> {
        match code {
            Self::ANY => Some(Self::Any),
            Self::MATCH => Some(Self::Match),
            code => PatternType::from_code(code).map(Self::Exactly),
        }
    }
}

/// Which rules are meant; `None` for any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AclFilter {
    pub resource: Option<ResourceType>,
    pub name: Option<String>,
    pub pattern: PatternFilter,
    pub principal: Option<String>,
    pub host: Option<String>,
    pub operation: Option<Operation>,
    pub permission: Option<Permission>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_as_it_is_written_and_sent() {
        for operation in Operation::ALL.iter().copied() {
            assert_eq!(Operation::parse(&operation.word().to_lowercase().replace('_', "-")), Some(operation));
            assert_eq!(Operation::from_code(operation.code()), Some(operation));
        }
        for resource in ResourceType::ALL.iter().copied() {
            assert_eq!(ResourceType::parse(resource.word()), Some(resource));
            assert_eq!(ResourceType::from_code(resource.code()), Some(resource));
        }
        assert_eq!(Operation::from_code(1), None);
        assert_eq!(PatternFilter::from_code(2), Some(PatternFilter::Match));
        assert_eq!(PatternFilter::from_code(4), Some(PatternFilter::Exactly(PatternType::Prefixed)));
    }
}
