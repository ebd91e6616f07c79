//! The file that `aws configure` writes: `AWS_SHARED_CREDENTIALS_FILE`, the section `AWS_PROFILE`.
//!
//! Read once, at the start. `~/.aws` is not looked at unasked: a service has no home to speak of.

/// Keys and values of the section; empty when no file is named.
///
/// # Errors
/// A file that cannot be read, or has no such section, with its name.
pub fn of_file() -> Result<Vec<(String, String)>, String> {
    let Some(file) = std::env::var_os("AWS_SHARED_CREDENTIALS_FILE").filter(|file| !file.is_empty()) else {
        return Ok(Vec::new());
    };
    let shown = file.display().to_string();
    let profile = std::env::var("AWS_PROFILE").unwrap_or_else(|_| "default".to_owned());
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{shown}: {error}"))?;
    let found = section(&text, &profile);
    match found.iter().any(|(key, _)| key == "aws_access_key_id") {
        true => Ok(found),
        false => Err(format!("{shown} has no aws_access_key_id in [{profile}] (AWS_PROFILE)")),
    }
}

fn section(text: &str, wanted: &str) -> Vec<(String, String)> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = name.trim() == wanted;
        } else if let Some((key, value)) = line.split_once('=').filter(|_| inside) {
            found.push((key.trim().to_lowercase(), value.trim().to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::section;

    const FILE: &str = "[default]\naws_access_key_id = one\n# a note = none\naws_secret_access_key=with=sign\n\n[ other ]\nAWS_ACCESS_KEY_ID=two\n";

    #[test]
    fn the_section_that_is_asked_for_is_read() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let both = [pair("aws_access_key_id", "one"), pair("aws_secret_access_key", "with=sign")];
        assert_eq!(section(FILE, "default"), both);
        assert_eq!(section(FILE, "other"), [pair("aws_access_key_id", "two")]);
        assert_eq!(section(FILE, "third"), []);
    }
}
