//! The tokens of a text by a server's own word.

use serde_json::{Value, json};

use super::client::FEW_TRIES;
use super::service::Service;
use crate::error::{Error, ErrorKind, Result};

/// Where servers cut a text in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// vLLM, SGLang (`prompt`) and llama.cpp (`content`).
    Tokenize,
    /// llama-cpp-python.
    Extras,
}

impl Way {
    fn request(self, service: &Service, text: &str, special: bool) -> (String, Value) {
        let (root, model) = (service.address().root(), service.model());
        let (path, body) = match self {
            Self::Tokenize => (
                "/tokenize",
                json!({ "model": model, "prompt": text, "add_special_tokens": special,
                    "content": text, "add_special": special, "parse_special": true }),
            ),
            Self::Extras => ("/extras/tokenize", json!({ "model": model, "input": text })),
        };
        (format!("{root}{path}"), body)
    }
}

fn ids(json: &Value) -> Option<Vec<u32>> {
    let ids = json.get("tokens")?.as_array()?;
    ids.iter().map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok())).collect()
}

impl Service {
    /// Returns the tokens of a text, with the special ones that the server puts before a prompt where
    /// `special` says so; `None` where the server does not tell. Costs nothing.
    pub(crate) fn tokenize(&self, text: &str, special: bool) -> Option<Vec<u32>> {
        // llama-cpp-python puts the begin token before every text, whatever it is told.
        [Way::Tokenize, Way::Extras].into_iter().find_map(|way| {
            let (url, body) = way.request(self, text, special);
            let answer = self.client().try_once(&url, Some(&body))?;
            ids(&answer.json().ok().filter(|_| answer.status == 200)?)
        })
    }

    /// Returns the tokens of a prompt, of a server that is known to tell them.
    ///
    /// # Errors
    /// As [`Service::completion`].
    pub(crate) fn prompt_tokens(&self, text: &str) -> Result<Vec<u32>> {
        let (url, body) = Way::Tokenize.request(self, text, true);
        let read = |json: &Value| ids(json).ok_or_else(|| "it has no `tokens`".to_owned());
        self.client().ask(&url, Some(&body), FEW_TRIES, read)?.map_err(|answer| {
            let error = self.refused(&answer);
            match error.kind() {
                ErrorKind::Context => error,
                _ => Error::new(ErrorKind::Server, format!("{url}: {}", error.message()))
                    .hint("give the model's tokenizer with `--tokenizer FILE`"),
            }
        })
    }
}
