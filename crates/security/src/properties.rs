//! Files of `KEY=VALUE` lines, as Kafka's tools read them: `#` and `!` comment, a `\` at the end continues a line.

use thiserror::Error;

#[derive(Debug, Clone, Error)]
#[error("line {line} is not KEY=VALUE")]
pub struct PropertiesError {
    pub line: usize,
}

/// Every setting with the number of the line it begins on.
///
/// # Errors
/// The first line that is no setting. The line is not shown: it may hold a secret.
pub fn lines(text: &str) -> Result<Vec<(usize, String, String)>, PropertiesError> {
    let mut settings = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let (begun, mut whole) = match open.take() {
            Some(open) => open,
            None if line.is_empty() || line.starts_with(['#', '!']) => continue,
            None => (index + 1, String::new()),
        };
        if let Some(part) = line.strip_suffix('\\') {
            whole.push_str(part);
            open = Some((begun, whole));
            continue;
        }
        whole.push_str(line);
        settings.push(setting(begun, &whole)?);
    }
    if let Some((begun, whole)) = open {
        settings.push(setting(begun, &whole)?);
    }
    Ok(settings)
}

fn setting(line: usize, text: &str) -> Result<(usize, String, String), PropertiesError> {
    let (key, value) = text.split_once('=').ok_or(PropertiesError { line })?;
    Ok((line, key.trim().to_owned(), value.trim().replace("\\n", "\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_on_after_a_backslash_and_a_secret_is_not_in_the_error() {
        let text = "# who\nsasl.mechanism = PLAIN\nsasl.jaas.config=Module required \\\n  username=\"a\";\n";
        let settings = lines(text).unwrap();
        assert_eq!(settings[0], (2, "sasl.mechanism".to_owned(), "PLAIN".to_owned()));
        assert_eq!(
            settings[1],
            (3, "sasl.jaas.config".to_owned(), "Module required username=\"a\";".to_owned())
        );
        assert_eq!(lines("a=b\nhunter2").unwrap_err().to_string(), "line 2 is not KEY=VALUE");
    }
}
