//! A tokenizer on this machine for a model on another.

use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::lm::{ChatTemplate, Message, Moment, Tokenizer, Tokens, question_boundary};

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
        let chat = chat.map(|chat| match chat.asks_date() {
            true => chat.with_moment(Moment::now()),
            false => chat,
        });
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

    /// Returns the date that the chat template is told; `None` if there is no template or none is asked for.
    pub fn chat_moment(&self) -> Option<Moment> {
        self.chat.as_ref()?.moment()
    }

    /// Sets the date that the chat template may ask for.
    pub(super) fn set_moment(&mut self, moment: Moment) {
        self.chat = self.chat.take().map(|chat| chat.with_moment(moment));
    }

    /// Returns a message as the chat template puts it, up to where the answer begins; `None` without
    /// a template. The begin token is left to the server, which puts it before every prompt.
    ///
    /// # Errors
    /// When the template fails.
    pub fn chat(&self, message: &str) -> Result<Option<String>> {
        let Some(chat) = &self.chat else { return Ok(None) };
        let message = Message { role: "user".into(), content: message.into() };
        let text = chat.before_answer(&[message])?;
        Ok(Some(self.tokenizer.without_prefix(&text).to_owned()))
    }

    /// Returns the tokens of the prompt with each label as one text, and the first token that is
    /// scored.
    ///
    /// # Errors
    /// As [`question_boundary`].
    pub(super) fn split(&self, prompt: &str, labels: &[String]) -> Result<(Vec<Tokens>, usize)> {
        let words: Vec<&str> = labels.iter().map(String::as_str).collect();
        let encode = |label: &&str| self.tokenizer.encode(&[prompt, label].concat());
        let joint = words.iter().map(encode).collect::<Result<Vec<Tokens>>>()?;
        let begin = question_boundary(prompt.len(), &words, &joint)?;
        Ok((joint, begin))
    }

    /// Returns the tokens that are scored of each label, each with the text before it.
    ///
    /// # Errors
    /// As [`question_boundary`], and [`ErrorKind::Tokenizer`] when a server that is given the text
    /// before a token would cut it otherwise.
    pub(super) fn pieces(&self, prompt: &str, labels: &[String]) -> Result<Vec<Vec<Piece>>> {
        let (joint, begin) = self.split(prompt, labels)?;
        joint.iter().map(|joint| self.pieces_from(joint, begin)).collect()
    }

    fn pieces_from(&self, joint: &Tokens, first: usize) -> Result<Vec<Piece>> {
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
