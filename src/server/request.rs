//! A request to a model: what is sent where, and what of the answer is kept.

use serde_json::{Value, json};

/// What is sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Prompt {
    /// A text, which the server cuts in tokens.
    Text(String),
    /// Tokens, the special ones before them included.
    Ids(Vec<u32>),
    /// A chat.
    Messages(Value),
}

/// Where it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `/v1/completions`.
    Completions,
    /// `/v1/chat/completions`.
    Chat,
    /// SGLang's own `/generate`.
    Generate,
    /// SGLang's `/v1/score`.
    Score,
}

/// What is asked for among the most likely tokens: of the others only the likeliest are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Tokens by their numbers.
    pub(crate) ids: Vec<u32>,
    /// Words: tokens that are one, or a beginning of one, but for blanks.
    pub(crate) words: Vec<String>,
}

/// A request to a model.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) endpoint: Endpoint,
    pub(crate) prompt: Prompt,
    /// The other parameters.
    pub(crate) more: Value,
    pub(crate) wanted: Wanted,
}

impl Request {
    /// A completion of a text.
    pub(crate) fn completion(prompt: &str, more: &Value) -> Self {
        Self::new(Endpoint::Completions, Prompt::Text(prompt.to_owned()), more)
    }

    /// A completion of tokens.
    pub(crate) fn tokens(ids: &[u32], more: &Value) -> Self {
        Self::new(Endpoint::Completions, Prompt::Ids(ids.to_vec()), more)
    }

    /// An answer in a chat.
    pub(crate) fn chat(messages: &Value, more: &Value) -> Self {
        Self::new(Endpoint::Chat, Prompt::Messages(messages.clone()), more)
    }

    pub(crate) fn new(endpoint: Endpoint, prompt: Prompt, more: &Value) -> Self {
        Self { endpoint, prompt, more: more.clone(), wanted: Wanted::default() }
    }

    /// The path, behind the API's address or behind the server's root.
    pub(super) fn path(&self) -> (bool, &'static str) {
        match self.endpoint {
            Endpoint::Completions => (false, "completions"),
            Endpoint::Chat => (false, "chat/completions"),
            Endpoint::Generate => (true, "generate"),
            Endpoint::Score => (false, "score"),
        }
    }

    /// The JSON that is sent.
    pub(super) fn body(&self, model: &str) -> Value {
        let prompt = match &self.prompt {
            Prompt::Text(text) => json!(text),
            Prompt::Ids(ids) => json!(ids),
            Prompt::Messages(messages) => messages.clone(),
        };
        let mut body = match self.endpoint {
            Endpoint::Completions => json!({ "model": model, "prompt": prompt }),
            Endpoint::Chat => json!({ "model": model, "messages": prompt }),
            Endpoint::Generate => json!({ "input_ids": prompt }),
            // A query and what follows it, which are joined.
            Endpoint::Score => match &self.prompt {
                Prompt::Ids(ids) => {
                    let (query, item) = ids.split_at(ids.len().saturating_sub(1));
                    json!({ "model": model, "query": query, "items": [item] })
                }
                _ => json!({ "model": model, "query": "", "items": [prompt] }),
            },
        };
        if let (Value::Object(body), Value::Object(more)) = (&mut body, &self.more) {
            body.extend(more.clone());
        }
        body
    }

    /// A digest of what the answer depends on, besides the model.
    pub(crate) fn digest(&self) -> [u8; 16] {
        use sha2::{Digest, Sha256};
        let whole = json!([self.path(), self.body(""), self.wanted.key()]).to_string();
        let digest = Sha256::digest(whole);
        std::array::from_fn(|at| digest[at])
    }

    /// The most tokens that the prompt can have: a token has a byte at least.
    pub(super) fn most_tokens(&self) -> u64 {
        let most = match &self.prompt {
            Prompt::Text(text) => text.len(),
            Prompt::Ids(ids) => ids.len(),
            Prompt::Messages(messages) => messages.to_string().len(),
        };
        most as u64
    }

    /// The most tokens that are written.
    pub(crate) fn most_written(&self) -> u64 {
        let told = self
            .more
            .get("max_tokens")
            .or_else(|| self.more.pointer("/sampling_params/max_new_tokens"));
        told.and_then(Value::as_u64).unwrap_or(1)
    }
}

impl Wanted {
    /// What the key of an answer has of it: what was not kept cannot be read from an answer.
    pub(super) fn key(&self) -> Value {
        json!([self.ids, self.words])
    }

    /// Whether a token is one of those.
    pub(super) fn has(&self, text: &str, id: Option<u32>) -> bool {
        let spelled = text.replace('\u{2581}', " ");
        let begun = spelled.trim();
        let is_it = |word: &String| {
            word == text
                || *word == spelled
                || (!begun.is_empty() && word.trim().starts_with(begun))
        };
        id.is_some_and(|id| self.ids.contains(&id)) || self.words.iter().any(is_it)
    }
}

/// The parameters of a chat whose next token is asked for.
pub(crate) fn chat_parameters(top_k: usize) -> Value {
    json!({ "max_tokens": 1, "temperature": 0, "logprobs": true, "top_logprobs": top_k })
}

/// Adds what makes vLLM go on with the last message; other servers do so by themselves or not at all.
pub(crate) fn prefill_parameters(more: &mut Value) {
    more["continue_final_message"] = true.into();
    more["add_generation_prompt"] = false.into();
}
