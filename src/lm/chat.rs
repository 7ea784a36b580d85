//! The chat template of a tokenizer: messages to the text a chat model was trained on.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use super::jinja::{self, Moment};
use crate::error::{Error, ErrorKind, Result};
use crate::guard;

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
    moment: Option<Moment>,
}

const CONFIG: &str = "tokenizer_config.json";
/// Newer models keep the template in a file of its own.
const FILE: &str = "chat_template.jinja";
/// Stands for an answer, to see what the template puts before one.
const ANSWER: &str = "Answer";
/// Where older saves have the special tokens.
const TOKENS_MAP: &str = "special_tokens_map.json";
/// The folder of further templates, one a file.
const NAMED: &str = "additional_chat_templates";
/// The special tokens that every tokenizer may have; others end in `_token` too.
const TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
/// What a template calls to learn the date.
const ASKS_DATE: &str = "strftime_now";
/// Stands for a message's text, to see whether a template drops it.
const PROBE: &str = "w2sprobe";

impl ChatTemplate {
    /// The files of a model folder that a template may come from.
    pub const FILES: [&str; 3] = [CONFIG, FILE, TOKENS_MAP];

    /// Returns the chat template of a model folder, or `None` for a base model, which has none.
    ///
    /// A `chat_template.jinja` wins over the template in `tokenizer_config.json`; of several named
    /// ones, `default` is that of plain conversations.
    ///
    /// # Errors
    /// [`ErrorKind::Tokenizer`] when the tokenizer's configuration is broken.
    pub fn open(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(CONFIG);
        let config = read_map(&path)?.unwrap_or_default();
        let Some(source) = source(folder, &config)? else { return Ok(None) };
        Ok(Some(Self { source, tokens: special_tokens(folder, config)?, moment: None }))
    }

    /// Returns whether the template asks for the date: what it renders depends on it.
    pub fn asks_date(&self) -> bool {
        self.source.contains(ASKS_DATE)
    }

    /// Returns the date that the template is told; `None` if it was given none.
    pub fn moment(&self) -> Option<Moment> {
        self.moment
    }

    /// Returns the template with the date that it may ask for.
    #[must_use]
    pub fn with_moment(mut self, moment: Moment) -> Self {
        self.moment = Some(moment);
        self
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
    /// As [`render`](Self::render), and for a template that drops or cuts a message.
    pub fn before_answer(&self, messages: &[Message]) -> Result<String> {
        let mut text = self.render(messages, true)?;
        self.check_kept(messages, &text)?;
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

    /// Checks that every message is in the text. A template may trim or escape it, so where its words
    /// are not found, plain ones of the same length are sent in their place.
    fn check_kept(&self, messages: &[Message], text: &str) -> Result<()> {
        for (place, message) in messages.iter().enumerate() {
            let words = message.content.trim();
            if text.contains(words) {
                continue;
            }
            let num = words.chars().count();
            let probe: String = PROBE.chars().cycle().take(num.max(PROBE.len())).collect();
            let mut probed = messages.to_vec();
            probed[place].content.clone_from(&probe);
            if self.render(&probed, true)?.to_lowercase().contains(&probe) {
                continue;
            }
            return Err(Error::new(
                ErrorKind::Tokenizer,
                format!("the chat template drops the message of role `{}` or a part of it", message.role),
            )
            .hint("the model would be asked nothing; check the template, and whether it is one for plain conversations"));
        }
        Ok(())
    }

    /// Returns the text of `messages`, with the opening of the assistant's answer at its end if
    /// `answer_follows`.
    ///
    /// The text has all special tokens that the model is to see: a template that writes no begin token
    /// wants none, and what tokenises the text adds none, as in transformers.
    ///
    /// # Errors
    /// [`ErrorKind::Tokenizer`] when the template cannot be rendered, refuses the messages (many refuse
    /// a system message, or two messages of one role in a row), asks for a date that was not given, or
    /// does not come to an end within bounds of steps and memory.
    ///
    /// # Source
    /// transformers' `render_jinja_template` (5.23): Jinja's sandbox with `trim_blocks`,
    /// `lstrip_blocks`, `break` and `continue`, the tag `generation`, a `tojson` that escapes nothing,
    /// `raise_exception` and `strftime_now`; `tools` and `documents` are none. The date is in UTC.
    pub fn render(&self, messages: &[Message], answer_follows: bool) -> Result<String> {
        let mut variables = Map::new();
        for name in ["tools", "documents"] {
            variables.insert(name.to_owned(), Value::Null);
        }
        variables.extend(self.tokens.clone());
        let messages: Vec<Value> = messages
            .iter()
            .map(|m| serde_json::json!({ "role": m.role, "content": m.content }))
            .collect();
        let num_bytes = messages.iter().map(|message| message.to_string().len()).sum();
        variables.insert("messages".to_owned(), messages.into());
        variables.insert("add_generation_prompt".to_owned(), answer_follows.into());
        let variables = minijinja::Value::from_serialize(&variables);
        match guard::caught(|| jinja::render(&self.source, variables, num_bytes, self.moment)) {
            Ok(rendered) => rendered.map_err(|e| failed(&e)),
            Err(panic) => Err(Error::new(
                ErrorKind::Tokenizer,
                format!("the chat template failed: its interpreter cannot cope with it: {panic}"),
            )
            .hint("check `chat_template.jinja` or `tokenizer_config.json`")),
        }
    }
}

/// Why a template could not be rendered, and what to do about it.
fn failed(error: &minijinja::Error) -> Error {
    use minijinja::ErrorKind as Kind;
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let line = error.line().map(|line| format!(" (line {line} of the template)"));
    let message = format!("the chat template failed: {detail}{}", line.unwrap_or_default());
    let hint = match error.kind() {
        Kind::OutOfFuel => {
            return Error::new(
                ErrorKind::Tokenizer,
                "the chat template failed: it does not come to an end within 2 million steps",
            )
            .hint(
                "it may loop without end; check `chat_template.jinja` or `tokenizer_config.json`",
            );
        }
        Kind::SyntaxError
        | Kind::UnknownFilter
        | Kind::UnknownTest
        | Kind::UnknownFunction
        | Kind::UnknownMethod => {
            "the template needs something that transformers' templates do not have, or is damaged"
        }
        _ => "check the messages' roles and their order; some templates know no system message",
    };
    Error::new(ErrorKind::Tokenizer, message).hint(hint)
}

/// A file with a JSON object; `None` where there is none.
fn read_map(path: &Path) -> Result<Option<Map<String, Value>>> {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|e| {
            Error::new(ErrorKind::Tokenizer, format!("broken JSON: {e}")).at_line(path, e.line())
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", path, &e)),
    }
}

/// The template's source: that of its file, else that of the configuration.
fn source(folder: &Path, config: &Map<String, Value>) -> Result<Option<String>> {
    let path = folder.join(CONFIG);
    let fail = |message: String| Error::new(ErrorKind::Tokenizer, message).at(&path);
    let file = folder.join(FILE);
    if file.exists() {
        return std::fs::read_to_string(&file).map(Some).map_err(|e| Error::io("read", &file, &e));
    }
    // Templates in files are all there are, as transformers has it.
    let named = folder.join(NAMED);
    if std::fs::read_dir(&named).is_ok_and(|mut files| {
        files.any(|file| file.is_ok_and(|f| f.path().extension().is_some_and(|e| e == "jinja")))
    }) {
        let default = named.join("default.jinja");
        if default.exists() {
            return std::fs::read_to_string(&default)
                .map(Some)
                .map_err(|e| Error::io("read", &default, &e));
        }
        let message = "there are chat templates, but none named `default`";
        return Err(Error::new(ErrorKind::Tokenizer, message).at(&named));
    }
    match config.get("chat_template") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(source)) => Ok(Some(source.clone())),
        // Several named ones; of one name, the last counts.
        Some(Value::Array(named)) => named
            .iter()
            .rfind(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))
            .and_then(|entry| entry.get("template")?.as_str())
            .map(|source| Some(source.to_owned()))
            .ok_or_else(|| fail("`chat_template` has no template named `default`".into())),
        Some(Value::Object(named)) => named
            .get("default")
            .and_then(Value::as_str)
            .map(|source| Some(source.to_owned()))
            .ok_or_else(|| fail("`chat_template` has no template named `default`".into())),
        Some(_) => Err(fail("`chat_template` is neither text nor a list".into())),
    }
}

/// The special tokens by name.
///
/// Source: transformers 5.23, `_from_pretrained`: special_tokens_map.json counts, and wins, only where
/// tokenizer_config.json has no `added_tokens_decoder`; a map of `extra_special_tokens` names more.
fn special_tokens(folder: &Path, mut config: Map<String, Value>) -> Result<Map<String, Value>> {
    if !config.contains_key("added_tokens_decoder")
        && let Some(map) = read_map(&folder.join(TOKENS_MAP))?
    {
        config.extend(map);
    }
    if let Some(Value::Object(more)) = config.get("extra_special_tokens").cloned() {
        config.extend(more);
    }
    let text_of = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(token) => token.get("content")?.as_str().map(str::to_owned),
        _ => None,
    };
    let is_token = |name: &str| TOKENS.contains(&name) || name.ends_with("_token");
    Ok(config
        .iter()
        .filter(|(name, _)| is_token(name))
        .filter_map(|(name, value)| Some((name.clone(), text_of(value)?.into())))
        .collect())
}
