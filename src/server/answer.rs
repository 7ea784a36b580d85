//! An answer of a server: its status, its JSON, and what it says of an error, without the key.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::inside::{self, Unusable};
use super::key::ApiKey;
use crate::error::{Error, ErrorKind, Result};

/// Characters of an answer that an error shows.
const SHOWN: usize = 300;

/// An answer that came, whatever it says.
#[derive(Clone)]
pub struct Answer {
    /// The HTTP status, or that of the error which came under the status 200.
    pub status: u16,
    /// The body as it came; the key may be in it, [`Answer::message`] is for people.
    pub body: String,
    /// The header `Server`.
    pub server: Option<String>,
    /// From sending to the last byte.
    pub elapsed: Duration,
    /// What is wrong with it, where it has the status 200.
    pub(super) fault: Option<String>,
    /// What is not to be shown.
    pub(super) key: Option<ApiKey>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("message", &self.message())
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

impl Answer {
    /// Returns an answer with a status and a body.
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        let (body, elapsed) = (body.into(), Duration::ZERO);
        Self { status, body, server: None, elapsed, fault: None, key: None }
    }

    /// Returns the JSON of an answer of status 200 that holds no error.
    ///
    /// # Errors
    /// What it is instead.
    pub fn data(&self) -> Result<Value, String> {
        json_of(self).map_err(|unusable| match unusable {
            Unusable::Status(status) => format!("{status}: {}", self.message()),
            Unusable::Broken(what) | Unusable::Form(what) | Unusable::Final(what) => what,
        })
    }

    /// Returns the body as JSON; the `NaN` of Python is null.
    ///
    /// # Errors
    /// [`ErrorKind::Server`] when it is something else.
    pub fn json(&self) -> Result<Value> {
        let lenient = || serde_json::from_str(&inside::without_nan(&self.body)?).ok();
        serde_json::from_str(&self.body).or_else(|e| lenient().ok_or(e)).map_err(|e| {
            let what = match self.body.trim().is_empty() {
                true => "the server's answer is empty, not JSON".to_owned(),
                false => {
                    format!("the server's answer is not JSON ({e}): `{}`", self.shown(&self.body))
                }
            };
            Error::new(ErrorKind::Server, what)
                .hint("is the address that of an OpenAI-compatible API? It mostly ends in `/v1`")
        })
    }

    /// A text for a message: without the key, and short.
    fn shown(&self, text: &str) -> String {
        match &self.key {
            Some(key) => shown(&key.hide(text)),
            None => shown(text),
        }
    }

    /// Returns what the server says about an error, shortened and without the key.
    pub fn message(&self) -> String {
        let shown = |text: &str| self.shown(text);
        let json: Value = serde_json::from_str(&self.body).unwrap_or(Value::Null);
        // OpenAI and vLLM: `error.message`; FastAPI: `detail`; older vLLM: `message`.
        let said = json
            .pointer("/error/message")
            .or_else(|| json.pointer("/choices/0/error/message"))
            .or_else(|| json.get("message"))
            .or_else(|| json.get("detail"))
            .or_else(|| json.get("error"));
        match said {
            Some(Value::String(text)) => shown(text),
            Some(other) => shown(&other.to_string()),
            None => shown(&self.body),
        }
    }

    /// Returns whether the server refuses a prompt because of its length.
    pub fn is_too_long(&self) -> bool {
        if self.status < 400 && self.fault.is_none() {
            return false;
        }
        let text = self.body.to_lowercase();
        const SIGNS: [&str; 7] = [
            "context length",
            "context_length",
            "context window",
            "context size",
            "maximum context",
            "max_model_len",
            "maximum model length",
        ];
        // A web page may speak of anything.
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&self.body).is_ok();
        let is_said = self.status >= 400 || is_json;
        self.status == 413 || (is_said && SIGNS.iter().any(|sign| text.contains(sign)))
    }
}

/// A text short enough for a message, on one line.
fn shown(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}...", &line[..at]),
        None => line,
    }
}

/// Returns the JSON of an answer that holds no error.
pub(super) fn json_of(answer: &Answer) -> Result<Value, Unusable> {
    let json = answer.json().map_err(|e| Unusable::Broken(e.message().to_owned()))?;
    match inside::error_in(&json, || answer.message()) {
        Some(unusable) => Err(unusable),
        None => Ok(json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_say_is_found() {
        let answer = |status, body: &str| Answer::new(status, body);
        let message = |body: &str| answer(400, body).message();
        assert_eq!(message(r#"{"error":{"message":"no such\nthing"}}"#), "no such thing");
        assert_eq!(message(r#"{"object":"error","message":"m"}"#), "m");
        assert_eq!(message("<html>x</html>"), "<html>x</html>");
        assert!(message(&"x".repeat(5000)).len() < 400);
        let llama = r#"{"error":{"message":"Requested tokens (9) exceed context window of 8"}}"#;
        let vllm = r#"{"error":{"message":"This model's maximum context length is 8 tokens."}}"#;
        assert!(answer(500, llama).is_too_long() && answer(400, vllm).is_too_long());
        assert!(!answer(200, "the context length is").is_too_long());
        assert!(answer(200, "<html>").json().is_err());
    }
}
