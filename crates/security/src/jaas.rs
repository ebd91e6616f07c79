//! `sasl.jaas.config` as far as Kafka's own login modules need it: `CLASS FLAG KEY="VALUE" …;`

use std::collections::BTreeMap;

use thiserror::Error;

use crate::Secret;

/// The options of one login module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub module: String,
    pub options: BTreeMap<String, Secret>,
}

/// The text is not shown: it holds a password.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum JaasError {
    #[error("it does not begin with the class of a login module and 'required'")]
    Module,
    #[error("an option is not KEY=\"VALUE\"")]
    Option,
    #[error("it does not end with ';'")]
    End,
}

impl Login {
    /// # Errors
    /// [`JaasError`] for anything but one module.
    pub fn parse(text: &str) -> Result<Self, JaasError> {
        let text = text.trim().strip_suffix(';').ok_or(JaasError::End)?.trim();
        let (module, rest) = text.split_once(char::is_whitespace).ok_or(JaasError::Module)?;
        let (flag, mut rest) = rest.trim_start().split_once(char::is_whitespace).unwrap_or((rest.trim(), ""));
        if !matches!(flag, "required" | "requisite" | "sufficient" | "optional") {
            return Err(JaasError::Module);
        }
        let mut options = BTreeMap::new();
        while !rest.trim_start().is_empty() {
            let (key, value) = rest.trim_start().split_once('=').ok_or(JaasError::Option)?;
            let (value, after) = value_of(value.trim_start())?;
            options.insert(key.trim().to_owned(), Secret::new(value));
            rest = after;
        }
        Ok(Self { module: module.to_owned(), options })
    }

    pub fn option(&self, key: &str) -> Option<&Secret> {
        self.options.get(key)
    }
}

fn value_of(text: &str) -> Result<(String, &str), JaasError> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        return Ok((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next().ok_or(JaasError::Option)?.1),
            other => value.push(other),
        }
    }
    Err(JaasError::Option)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_of_a_module_are_read_and_not_shown() {
        let text = r#"org.apache.kafka.common.security.scram.ScramLoginModule required username="al ice" password="a\"b=;c";"#;
        let login = Login::parse(text).unwrap();
        assert_eq!(login.option("username").unwrap().reveal(), "al ice");
        assert_eq!(login.option("password").unwrap().reveal(), "a\"b=;c");
        assert!(!format!("{login:?}").contains("a\\\"b"));
        assert_eq!(Login::parse("Module required username=\"a\"").unwrap_err(), JaasError::End);
        assert_eq!(Login::parse("Module required username=\"a;").unwrap_err(), JaasError::Option);
        assert_eq!(Login::parse("username=\"a\";").unwrap_err(), JaasError::Module);
    }
}
