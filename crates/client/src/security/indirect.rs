//! Values that stand elsewhere, so that a file of settings need hold no secret: `${env:NAME}` and `${file:/PATH}`.

use std::path::PathBuf;

use super::SecurityError;

/// The value with what stands elsewhere put in.
pub fn resolved(key: &str, value: &str) -> Result<String, SecurityError> {
    let mut text = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        text.push_str(before);
        let found = after.split_once('}').and_then(|(what, after)| Some((what.split_once(':')?, after)));
        rest = match found {
            Some((("env", name), after)) => {
                let missing = || SecurityError::Variable { key: key.to_owned(), name: name.to_owned() };
                text.push_str(&std::env::var(name).map_err(|_| missing())?);
                after
            }
            Some((("file", path), after)) => {
                let unreadable = |source| SecurityError::File { path: PathBuf::from(path), source };
                text.push_str(
                    std::fs::read_to_string(path).map_err(unreadable)?.trim_end_matches(['\r', '\n']),
                );
                after
            }
            _ => {
                text.push_str("${");
                after
            }
        };
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_files_and_from_the_environment() {
        let file = std::env::temp_dir().join(format!("headwater-indirect-{}", std::process::id()));
        std::fs::write(&file, "se cret\n").unwrap();
        let text = format!("a=\"${{file:{}}}\" b=${{env:CARGO_PKG_NAME}};$x${{", file.display());
        assert_eq!(resolved("k", &text).unwrap(), "a=\"se cret\" b=headwater-client;$x${");
        std::fs::remove_file(&file).unwrap();
        let gone = resolved("k", "${env:HEADWATER_NO_SUCH}").unwrap_err().to_string();
        assert!(gone.contains("HEADWATER_NO_SUCH") && gone.contains('k'), "{gone}");
        assert!(resolved("k", "${file:/nowhere}").unwrap_err().to_string().contains("/nowhere"));
    }
}
