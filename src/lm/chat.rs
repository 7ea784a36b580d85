//! The chat template of a tokenizer: messages to the text a chat model was trained on.

use std::path::Path;

use minijinja::{Environment, ErrorKind as JinjaKind, context};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind, Result};

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

/// A chat template with the special tokens and variables that it may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatTemplate {
    source: String,
    tokens: Map<String, Value>,
}

const CONFIG: &str = "tokenizer_config.json";
/// Newer models keep the template in a file of its own.
const FILE: &str = "chat_template.jinja";
/// Stands for an answer, to see what the template puts before one.
const ANSWER: &str = "Answer";
/// The special tokens that templates name.
const TOKENS: [&str; 4] = ["bos_token", "eos_token", "unk_token", "pad_token"];

impl ChatTemplate {
    /// The files of a model folder that a template may come from.
    pub const FILES: [&str; 2] = [CONFIG, FILE];

    /// Returns the chat template of a model folder, or `None` for a base model, which has none.
    ///
    /// # Errors
    /// [`ErrorKind::Tokenizer`] when the tokenizer's configuration is broken.
    pub fn open(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(CONFIG);
        let fail = |message: String| Error::new(ErrorKind::Tokenizer, message).at(&path);
        let config: Map<String, Value> = match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .map_err(|e| fail(format!("broken JSON: {e}")).at_line(&path, e.line()))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Map::new(),
            Err(e) => return Err(Error::io("read", &path, &e)),
        };
        let file = folder.join(FILE);
        let source = if file.exists() {
            std::fs::read_to_string(&file).map_err(|e| Error::io("read", &file, &e))?
        } else {
            match config.get("chat_template") {
                None | Some(Value::Null) => return Ok(None),
                Some(Value::String(source)) => source.clone(),
                // Several named ones; `default` is the one for plain conversations.
                Some(Value::Array(named)) => named
                    .iter()
                    .find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))
                    .and_then(|entry| entry.get("template")?.as_str())
                    .ok_or_else(|| fail("`chat_template` has no template named `default`".into()))?
                    .to_owned(),
                Some(_) => return Err(fail("`chat_template` is neither text nor a list".into())),
            }
        };
        let text_of = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Object(token) => token.get("content")?.as_str().map(str::to_owned),
            _ => None,
        };
        let tokens = TOKENS
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), text_of(config.get(*name)?)?.into())))
            .collect();
        Ok(Some(Self { source, tokens }))
    }

    /// Returns the template with a variable of its own set, as Qwen3's has `enable_thinking`.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.tokens.insert(name.to_owned(), value.into());
        self
    }

    /// Returns the text of `messages` up to where the words of the assistant's answer begin: the
    /// opening of the answer, and the blanks that the template puts between it and an answer.
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub fn before_answer(&self, messages: &[Message]) -> Result<String> {
        let mut text = self.render(messages, true)?;
        let answer = Message { role: "assistant".to_owned(), content: ANSWER.to_owned() };
        let answered = [messages, &[answer]].concat();
        // Some templates render an answer of the past in another way than they open one; then there
        // is nothing to be learnt from it.
        if let Ok(whole) = self.render(&answered, false)
            && let Some(rest) = whole.strip_prefix(text.as_str())
            && rest.trim_start().starts_with(ANSWER)
        {
            text.push_str(&rest[..rest.len() - rest.trim_start().len()]);
        }
        Ok(text)
    }

    /// Returns the text of `messages`, with the opening of the assistant's answer at its end if
    /// `answer_follows`.
    ///
    /// Most templates begin with the begin token; [`super::Tokenizer::without_prefix`] takes it off
    /// where the tokenizer adds it too.
    ///
    /// # Errors
    /// [`ErrorKind::Tokenizer`] when the template cannot be rendered, or refuses the messages (many
    /// refuse a system message, or two messages of one role in a row).
    ///
    /// # Source
    /// transformers' `apply_chat_template`: Jinja with `trim_blocks` and `lstrip_blocks`,
    /// `raise_exception`, and Python's string methods.
    pub fn render(&self, messages: &[Message], answer_follows: bool) -> Result<String> {
        let fail = |e: minijinja::Error| {
            let detail = e.detail().map_or_else(|| e.to_string(), str::to_owned);
            Error::new(ErrorKind::Tokenizer, format!("the chat template failed: {detail}")).hint(
                "check the messages' roles and their order; some templates know no system message",
            )
        };
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| {
            Err::<String, _>(minijinja::Error::new(JinjaKind::InvalidOperation, message))
        });
        environment.add_template("chat", &self.source).map_err(fail)?;
        let template = environment.get_template("chat").map_err(fail)?;
        let tokens = minijinja::Value::from_serialize(&self.tokens);
        template
            .render(context! { messages, add_generation_prompt => answer_follows, ..tokens })
            .map_err(fail)
    }
}
