//! Writing: the text a model goes on with after a prompt.

use serde::{Deserialize, Serialize};

use super::work::pretended;
use super::{Journaled, LmScorer, Scorer};
use crate::error::{Error, ErrorKind, Result};
use crate::lm::{GenerateOptions, Sampling, generate};
use crate::run::SeedStream;

/// What was written after one prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The text, without the token that ended it.
    pub text: String,
    /// Tokens of the prompt, special tokens included.
    pub num_prompt_tokens: usize,
    /// Tokens of the text.
    pub num_tokens: usize,
}

/// Something that writes after prompts, always the most likely next token (greedy).
pub trait Generator {
    /// Returns whether `prompt` leaves room for a token behind it.
    ///
    /// # Errors
    /// [`ErrorKind::Context`] when it does not, with its length; it names no example, which the caller
    /// knows.
    fn check_room(&self, prompt: &str) -> Result<()>;

    /// Returns what is written after each prompt, in their order, up to `max_new_tokens` each.
    ///
    /// # Errors
    /// [`ErrorKind::Context`] when a prompt leaves no room for a token, [`ErrorKind::Numeric`] when the
    /// model gives NaN.
    fn write(&mut self, prompts: &[String], max_new_tokens: usize) -> Result<Vec<Written>>;
}

impl<G: Generator + ?Sized> Generator for &mut G {
    fn check_room(&self, prompt: &str) -> Result<()> {
        (**self).check_room(prompt)
    }

    fn write(&mut self, prompts: &[String], max_new_tokens: usize) -> Result<Vec<Written>> {
        (**self).write(prompts, max_new_tokens)
    }
}

impl<G: Generator + ?Sized> Generator for Box<G> {
    fn check_room(&self, prompt: &str) -> Result<()> {
        (**self).check_room(prompt)
    }

    fn write(&mut self, prompts: &[String], max_new_tokens: usize) -> Result<Vec<Written>> {
        (**self).write(prompts, max_new_tokens)
    }
}

/// Returns the error for a prompt of `len` tokens where a context of `most` should hold a token more.
pub(super) fn no_room(len: usize, most: usize) -> Error {
    Error::new(
        ErrorKind::Context,
        format!(
            "the prompt is {len} tokens long and must leave room for an answer in a context of {most}"
        ),
    )
    .hint("shorten the example, raise `--max-context` if the model can go beyond it, or use a model with a longer context")
}

impl Generator for LmScorer {
    fn check_room(&self, prompt: &str) -> Result<()> {
        let tokenizer = self.tokenizer();
        let len = tokenizer.prefix().len() + tokenizer.encode(prompt)?.ids.len();
        let most = self.max_tokens();
        if len < most { Ok(()) } else { Err(no_room(len, most)) }
    }

    fn write(&mut self, prompts: &[String], max_new_tokens: usize) -> Result<Vec<Written>> {
        if self.counted().is_some() {
            return self.count_written(prompts, max_new_tokens);
        }
        self.written(prompts, max_new_tokens, true)
    }
}

impl LmScorer {
    /// Returns what a chat model answers to `message`, up to `max_new_tokens`.
    ///
    /// # Errors
    /// As [`Scorer::chat`] and [`Generator::write`].
    pub fn answer(&mut self, message: &str, max_new_tokens: usize) -> Result<Written> {
        let prompt = self.chat(message)?;
        let written = self.written(&[prompt], max_new_tokens, false)?;
        Ok(written.into_iter().next().unwrap_or_default())
    }

    fn written(&self, prompts: &[String], most: usize, special: bool) -> Result<Vec<Written>> {
        let options = GenerateOptions {
            max_new_tokens: most,
            max_context_tokens: Some(self.max_tokens()),
            sampling: Sampling::Greedy,
            end_tokens: self.end_tokens()?,
            stop: Vec::new(),
            add_special_tokens: special,
        };
        let (decoder, tokenizer) = (self.decoder(), self.tokenizer());
        let num_special = if special { tokenizer.prefix().len() } else { 0 };
        // Greedy writing draws nothing.
        let streams = SeedStream::new(0);
        let texts = generate(decoder, tokenizer, prompts, &options, streams)?;
        texts
            .into_iter()
            .zip(prompts)
            .map(|(text, prompt)| {
                let num_prompt_tokens = num_special + tokenizer.encode(prompt)?.ids.len();
                Ok(Written { num_tokens: text.ids.len(), text: text.text, num_prompt_tokens })
            })
            .collect()
    }

    /// Counts what writing after the prompts would run if no text ends early, and writes an answer as good
    /// as drawn at random.
    fn count_written(&mut self, prompts: &[String], most: usize) -> Result<Vec<Written>> {
        let prefix = self.tokenizer().prefix().len();
        let lens: Vec<usize> = prompts
            .iter()
            .map(|prompt| Ok(prefix + self.tokenizer().encode(prompt)?.ids.len()))
            .collect::<Result<_>>()?;
        if let Some(counted) = self.counted_mut() {
            for &len in &lens {
                let chain: Vec<Option<usize>> = (0..len).map(|i: usize| i.checked_sub(1)).collect();
                counted.add_pass(0, &chain, 1);
                counted.num_written += most as u64;
                counted.longest = counted.longest.max(len + most);
            }
        }
        // A letter and a number, which the parsers of options and of open answers can read: what reads
        // the answers next has some.
        let written = |(&len, prompt): (&usize, &String)| {
            let text = match pretended(prompt, 0) > pretended(prompt, 1) {
                true => "A. 1",
                false => "B. 2",
            };
            Written { text: text.to_owned(), num_prompt_tokens: len, num_tokens: 0 }
        };
        Ok(lens.iter().zip(prompts).map(written).collect())
    }
}

#[derive(Serialize, Deserialize)]
struct Entry {
    /// Digest of the prompts and of how many tokens may follow.
    prompts: String,
    written: Vec<Written>,
}

impl<G: Generator> Generator for Journaled<G> {
    fn check_room(&self, prompt: &str) -> Result<()> {
        self.inner().check_room(prompt)
    }

    fn write(&mut self, prompts: &[String], max_new_tokens: usize) -> Result<Vec<Written>> {
        let digest = digest(prompts, max_new_tokens);
        let (generator, journal) = self.parts();
        if let Some((entry, line)) = journal.replay::<Entry>()? {
            if entry.prompts != digest || entry.written.len() != prompts.len() {
                return Err(Error::new(
                    ErrorKind::Run,
                    "the journal answers other prompts than the run now writes after",
                )
                .at_line(journal.path(), line)
                .hint("the data, the settings or the program changed since the run began; start a new run folder"));
            }
            return Ok(entry.written);
        }
        let written = generator.write(prompts, max_new_tokens)?;
        let entry = Entry { prompts: digest, written };
        journal.append(&entry)?;
        Ok(entry.written)
    }
}

fn digest(prompts: &[String], max_new_tokens: usize) -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new_with_prefix((max_new_tokens as u64).to_le_bytes());
    for prompt in prompts {
        hash.update((prompt.len() as u64).to_le_bytes());
        hash.update(prompt);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes by calling a function on each prompt, for tests of everything above the model.
pub struct TableGenerator<F> {
    text: F,
}

impl<F: FnMut(&str) -> String> TableGenerator<F> {
    /// Returns a generator that writes `text(prompt)`, whatever its length.
    pub fn new(text: F) -> Self {
        Self { text }
    }
}

impl<F: FnMut(&str) -> String> Generator for TableGenerator<F> {
    fn check_room(&self, _: &str) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, prompts: &[String], _: usize) -> Result<Vec<Written>> {
        let words = |text: &str| text.split_whitespace().count();
        let write = |prompt: &String| {
            let text = (self.text)(prompt);
            Written { num_prompt_tokens: words(prompt), num_tokens: words(&text), text }
        };
        Ok(prompts.iter().map(write).collect())
    }
}
