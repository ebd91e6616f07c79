//! `ssl.principal.mapping.rules` (KIP-371): from the subject of a certificate to the name of a user.

use regex::Regex;
use thiserror::Error;

use super::name::subject;

#[derive(Debug, Error)]
#[error(
    "ssl.principal.mapping.rules: '{rule}' is not a rule: use RULE:PATTERN/REPLACEMENT/ with L or U after it if wanted, or DEFAULT, and commas between several"
)]
pub struct MappingError {
    rule: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    AsIs,
    Lower,
    Upper,
}

#[derive(Debug, Clone)]
enum Rule {
    /// The whole subject.
    Default,
    Replace {
        pattern: Regex,
        replacement: String,
        case: Case,
    },
}

/// The first rule that fits decides; without one that fits, the client is nobody.
#[derive(Debug, Clone)]
pub struct Mapping {
    rules: Vec<Rule>,
}

impl Mapping {
    /// # Errors
    /// What is no rule.
    pub fn parse(text: &str) -> Result<Self, MappingError> {
        let mut rules = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let wrong = || MappingError { rule: rest.to_owned() };
            let (rule, after) = match (rest.strip_prefix("RULE:"), rest.strip_prefix("DEFAULT")) {
                (Some(body), _) => replacing(body).ok_or_else(wrong)?,
                (None, Some(after)) => (Rule::Default, after),
                (None, None) => return Err(wrong()),
            };
            rules.push(rule);
            rest = match after.trim_start() {
                "" => "",
                after => after.strip_prefix(',').ok_or_else(wrong)?.trim_start(),
            };
        }
        if rules.is_empty() {
            rules.push(Rule::Default);
        }
        Ok(Self { rules })
    }

    /// Whom a certificate in DER names, if anybody.
    pub fn named(&self, certificate: &[u8]) -> Option<String> {
        self.name(&subject(certificate)?).filter(|name| !name.is_empty())
    }

    pub fn name(&self, subject: &str) -> Option<String> {
        self.rules.iter().find_map(|rule| match rule {
            Rule::Default => Some(subject.to_owned()),
            Rule::Replace { pattern, replacement, case } => {
                let name = pattern.captures(subject).map(|found| {
                    let mut name = String::new();
                    found.expand(replacement, &mut name);
                    name
                })?;
                Some(match case {
                    Case::AsIs => name,
                    Case::Lower => name.to_lowercase(),
                    Case::Upper => name.to_uppercase(),
                })
            }
        })
    }
}

/// `PATTERN/REPLACEMENT/` and L or U; what is after it.
fn replacing(body: &str) -> Option<(Rule, &str)> {
    let (pattern, rest) = split(body)?;
    let (replacement, rest) = split(rest)?;
    let (case, rest) = match (rest.strip_prefix('L'), rest.strip_prefix('U')) {
        (Some(rest), _) => (Case::Lower, rest),
        (None, Some(rest)) => (Case::Upper, rest),
        (None, None) => (Case::AsIs, rest),
    };
    let pattern = Regex::new(&format!("^(?:{pattern})$")).ok()?;
    let replacement = braced(&replacement, pattern.captures_len() - 1);
    Some((Rule::Replace { pattern, replacement, case }, rest))
}

/// Up to the next `/` that is not escaped.
fn split(text: &str) -> Option<(String, &str)> {
    let mut taken = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '/' => return Some((taken, &text[at + 1..])),
            '\\' => match characters.next()? {
                (_, '/') => taken.push('/'),
                (_, other) => taken.extend(['\\', other]),
            },
            other => taken.push(other),
        }
    }
    None
}

/// As Kafka and Java read it: the number of a group has the digits with which there is such a group, and what follows them
/// is text, a digit as well as a letter; so is a number of which there is no group.
fn braced(replacement: &str, groups: usize) -> String {
    let mut braced = String::new();
    let mut rest = replacement;
    while let Some((before, after)) = rest.split_once('$') {
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let is_group = |length: &usize| after[..*length].parse::<usize>().is_ok_and(|group| group <= groups);
        let length = (1..=digits).rev().find(is_group);
        braced.push_str(before);
        match length {
            Some(length) => braced.push_str(&format!("${{{}}}", &after[..length])),
            None => braced.push_str("$$"),
        }
        rest = &after[length.unwrap_or_default()..];
    }
    braced.push_str(rest);
    braced
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: &str = "CN=Billing,OU=Pay/Ments,O=Example,C=DE";

    fn mapped(rules: &str) -> Option<String> {
        Mapping::parse(rules).unwrap().name(SUBJECT)
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        assert_eq!(mapped("").as_deref(), Some(SUBJECT));
        assert_eq!(mapped("DEFAULT").as_deref(), Some(SUBJECT));
        assert_eq!(mapped("RULE:^CN=(.*?),OU=.*$/$1/L, DEFAULT").as_deref(), Some("billing"));
        assert_eq!(mapped("RULE:^CN=(.*?),.*,C=(..)$/$1_$2/U").as_deref(), Some("BILLING_DE"));
        assert_eq!(mapped("RULE:^CN=other$/x/,RULE:CN=(.*?),.*/$1@x/").as_deref(), Some("Billing@x"));
        assert_eq!(
            mapped("RULE:^CN=(.*?),.*$/$12$0x/U").as_deref(),
            Some("BILLING2CN=BILLING,OU=PAY/MENTS,O=EXAMPLE,C=DEX")
        );
        assert_eq!(mapped("RULE:^CN=(.*?),.*$/$2$1$/").as_deref(), Some("$2Billing$"));
        assert_eq!(mapped("RULE:.*OU=Pay\\/(.*?),.*/$1/").as_deref(), Some("Ments"));
        assert_eq!(mapped("RULE:^CN=other$/x/"), None);
        // A pattern must fit the whole.
        assert_eq!(mapped("RULE:CN=Billing/x/"), None);
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for wrong in ["RULE:a", "RULE:a/b", "RULE:(/b/", "ANY", "DEFAULT DEFAULT", "RULE:a/b/X"] {
            assert!(Mapping::parse(wrong).is_err(), "{wrong}");
        }
    }
}
