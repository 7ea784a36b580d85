//! The key that a server wants to see, and that nobody else sees.

use std::fmt;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

/// Variables of the environment that may hold the key, the first that is set counts.
const VARIABLES: [&str; 2] = ["W2S_API_KEY", "OPENAI_API_KEY"];
/// What is written in the place of a key.
const HIDDEN: &str = "[key]";
/// Shorter parts of a key are words like any other.
const LEAST_PART: usize = 8;

/// An API key. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl ApiKey {
    /// Returns the key of a text.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when there is none in it, or more than one line.
    pub fn new(text: &str) -> Result<Self> {
        let key = text.trim();
        if key.is_empty() || key.contains(|c: char| c.is_whitespace() || !c.is_ascii_graphic()) {
            return Err(Error::new(ErrorKind::Usage, "expected one API key and nothing else"));
        }
        Ok(Self(key.to_owned()))
    }

    /// Returns the key in a file, or in the environment when no file is given.
    ///
    /// # Errors
    /// When the file cannot be read or does not hold a key.
    pub fn find(file: Option<&Path>) -> Result<Option<Self>> {
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, &e))?;
            return Self::new(&text).map(Some).map_err(|e| e.at(path));
        }
        for name in VARIABLES {
            if let Some(text) = std::env::var(name).ok().filter(|text| !text.trim().is_empty()) {
                return Self::new(&text).map(Some).map_err(|e| e.of(name));
            }
        }
        Ok(None)
    }

    /// Returns what the header `Authorization` says.
    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Returns a text without the key, for messages: servers repeat it in what they refuse, some of
    /// them a part. What a model wrote never goes through here.
    pub(super) fn hide(&self, text: &str) -> String {
        if self.0.len() < LEAST_PART {
            return self.hide_word(text);
        }
        let text = text.replace(&self.0, HIDDEN);
        // As JSON writes it.
        let escaped = self.0.replace('\\', "\\\\").replace('"', "\\\"");
        let text = text.replace(&escaped, HIDDEN);
        if self.0.len() < 2 * LEAST_PART {
            return text;
        }
        let (first, last) = (&self.0[..LEAST_PART], &self.0[self.0.len() - LEAST_PART..]);
        text.replace(first, HIDDEN).replace(last, HIDDEN)
    }

    /// A key of a few letters is in many words; as one of its own it is the key.
    fn hide_word(&self, text: &str) -> String {
        let is_part = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        for (from, found) in text.match_indices(&self.0) {
            let (before, after) = (&text[..from], &text[from + found.len()..]);
            if is_part(before.chars().next_back()) || is_part(after.chars().next()) {
                continue;
            }
            out.push_str(&text[at..from]);
            out.push_str(HIDDEN);
            at = from + found.len();
        }
        out.push_str(&text[at..]);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_hidden_whole_and_in_parts() {
        let key = ApiKey::new(" sk-0123456789abcdefghij\n").unwrap();
        assert_eq!(format!("{key:?}"), "[key]");
        let told = key.hide("bad key sk-0123456789abcdefghij, sk-01234****cdefghij");
        assert!(!told.contains("01234") && !told.contains("cdefghij"), "{told}");
        let short = ApiKey::new("a").unwrap();
        assert_eq!(short.hide("bad key: a, not `a` or bar"), "bad key: [key], not `[key]` or bar");
        let quoted = ApiKey::new(r#"sk-"01\23456789"#).unwrap();
        let told = quoted.hide(r#"{"m": "sk-\"01\\23456789"}"#);
        assert_eq!(told, r#"{"m": "[key]"}"#);
        for bad in ["", " \n", "two keys", "a\nb"] {
            assert!(ApiKey::new(bad).is_err(), "{bad}");
        }
    }
}
