//! Where a server is, and which of its models is meant: `http://host:8000/v1#NAME`.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};

/// The address of an OpenAI-compatible server and the name of one of its models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    /// What stands before `/completions`, without a slash at its end.
    pub url: String,
    /// The model; `None`: the only one that the server has.
    pub model: Option<String>,
}

impl ServerAddress {
    /// Returns whether a text is meant as an address, and not as a folder.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("http://") || text.starts_with("https://")
    }

    /// Returns the address that a text gives.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for what is no address, and for one that holds a password or a key.
    pub fn parse(text: &str) -> Result<Self> {
        let fail = |message: &str| {
            Err(Error::new(ErrorKind::Usage, message.to_owned())
                .hint("expected an address such as `http://localhost:8000/v1#NAME`"))
        };
        let url = match url::Url::parse(text) {
            Ok(url) if url.has_host() && Self::is_meant(text) => url,
            _ => return fail("this is not the address of a server"),
        };
        // The address stands in manifests and messages. It is not repeated here, for the same reason.
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err(Error::new(
                ErrorKind::Usage,
                "the address of a server holds a password or parameters, and it would be written down",
            )
            .hint("leave them out; a key is read from W2S_API_KEY, OPENAI_API_KEY or `--api-key-file`"));
        }
        let model = url.fragment().filter(|name| !name.is_empty()).map(decoded);
        let path = url.path().trim_end_matches('/');
        let path = if path.is_empty() { "/v1" } else { path };
        let origin = url.origin().ascii_serialization();
        Ok(Self { url: format!("{origin}{path}"), model })
    }

    /// Returns the address of the server itself, where it says what it is.
    pub fn root(&self) -> &str {
        self.url.strip_suffix("/v1").unwrap_or(&self.url)
    }

    /// Returns the address with the name of a model.
    #[must_use]
    pub fn with_model(&self, name: &str) -> Self {
        Self { url: self.url.clone(), model: Some(name.to_owned()) }
    }
}

/// A fragment has no blanks and such; names of models may.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.model {
            Some(model) => write!(f, "{}#{model}", self.url),
            None => write!(f, "{}", self.url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let read = |text: &str| ServerAddress::parse(text).unwrap().to_string();
        assert_eq!(read("http://host:8000/v1#org/name"), "http://host:8000/v1#org/name");
        assert_eq!(read("http://host:8000/"), "http://host:8000/v1");
        assert_eq!(read("https://a.b/api/v1/#x%20y"), "https://a.b/api/v1#x y");
        let address = ServerAddress::parse("http://h:1/v1#n").unwrap();
        assert_eq!((address.root(), address.model.as_deref()), ("http://h:1", Some("n")));
        for bad in ["http://", "host:8000/v1", "ftp://host/v1", "models/x"] {
            assert!(ServerAddress::parse(bad).is_err(), "{bad}");
        }
        for secret in ["http://me:sk-secret@h/v1#n", "http://h/v1?key=sk-secret#n"] {
            let error = ServerAddress::parse(secret).unwrap_err().to_string();
            assert!(error.contains("W2S_API_KEY") && !error.contains("sk-secret"), "{error}");
        }
    }
}
