//! A tokenizer on this machine for a model on another.

use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::lm::{ChatTemplate, Message, Tokenizer, Tokens};

/// The tokenizer of a served model, and its chat template where it has one.
#[derive(Debug)]
pub struct LocalTokenizer {
    path: PathBuf,
    tokenizer: Tokenizer,
    chat: Option<ChatTemplate>,
}

/// A label's token: the text before it, its own, and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) before: String,
    pub(super) text: String,
    pub(super) id: u32,
}

impl LocalTokenizer {
    /// Returns the tokenizer of a `tokenizer.json`, or of the folder that holds one.
    ///
    /// # Errors
    /// [`ErrorKind::Tokenizer`] when it is missing or broken.
    pub fn open(path: &Path) -> Result<Self> {
        let file = if path.is_dir() { path.join("tokenizer.json") } else { path.to_path_buf() };
        let tokenizer = Tokenizer::open_file(&file)?;
        let chat = match file.parent() {
            Some(folder) => ChatTemplate::open(folder)?,
            None => None,
        };
        let chat = chat.map(|chat| chat.with_variable("enable_thinking", false));
        Ok(Self { path: file, tokenizer, chat })
    }

    /// Returns the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Returns a message as the chat template puts it, up to where the answer begins; `None` without
    /// a template.
    ///
    /// # Errors
    /// When the template fails.
    pub fn chat(&self, message: &str) -> Result<Option<String>> {
        let Some(chat) = &self.chat else { return Ok(None) };
        let message = Message { role: "user".into(), content: message.into() };
        let text = chat.before_answer(&[message])?;
        Ok(Some(self.tokenizer.without_prefix(&text).to_owned()))
    }

    /// Returns the tokens of prompt and label as one text, and how many of them are the label's.
    ///
    /// # Errors
    /// [`ErrorKind::Task`] for a label without a token of its own.
    pub(super) fn split(&self, prompt: &str, label: &str) -> Result<(Tokens, usize)> {
        let joint = self.tokenizer.encode(&[prompt, label].concat())?;
        let num = joint.ids.len() - joint.boundary(prompt.len());
        if num == 0 {
            return Err(Error::new(
                ErrorKind::Task,
                format!("label word `{label}` has no token of its own"),
            ));
        }
        Ok((joint, num))
    }

    /// Returns the tokens of a label, each with the text before it.
    ///
    /// # Errors
    /// [`ErrorKind::Tokenizer`] when a server that is given the text before a token would cut it
    /// otherwise.
    pub(super) fn pieces(&self, prompt: &str, label: &str) -> Result<Vec<Piece>> {
        let (joint, num) = self.split(prompt, label)?;
        let first = joint.ids.len() - num;
        let piece = |at: usize| {
            // Offsets leave out the blank that some tokenizers join to a word.
            let from = if at == 0 { 0 } else { joint.ends[at - 1] };
            let before = &joint.text[..from];
            if self.tokenizer.encode(before)?.ids != joint.ids[..at] {
                let start: String = joint.text[from..].chars().take(20).collect();
                return Err(Error::new(
                    ErrorKind::Tokenizer,
                    format!(
                        "the text before `{start}` is cut in other tokens when it stands alone"
                    ),
                )
                .hint("such a label needs an exact route (echo, prompt-logprobs)"));
            }
            let text = joint.text[from..joint.ends[at]].to_owned();
            Ok(Piece { before: before.to_owned(), text, id: joint.ids[at] })
        };
        (first..joint.ids.len()).map(piece).collect()
    }
}
