//! Text to tokens with byte offsets, and the growing of a tokenised text without starting over.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::guard::{caught, guarded};

/// A model's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    prefix: Vec<u32>,
    path: PathBuf,
}

/// What reads the file and the texts; it panics on some damaged files.
const READER: &str = "the tokenizers library";

/// A text and its tokens, tokenised as one piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// The text, without special tokens.
    pub text: String,
    /// The text's token ids, without special tokens.
    pub ids: Vec<u32>,
    /// First byte of each token in the text.
    pub starts: Vec<usize>,
    /// One past the last byte of each token in the text.
    pub ends: Vec<usize>,
}

/// Tokens before the join that are tokenised again, at first; doubled until the two agree.
const OVERLAP: usize = 24;
/// Tokens at the start of the overlap that may differ, because what is left of them is missing.
const SETTLE: usize = 8;
/// Tokens after those that must agree.
const AGREE: usize = 8;

impl Tokenizer {
    /// Returns the tokenizer of a model folder (`tokenizer.json`).
    ///
    /// # Errors
    /// [`ErrorKind::Tokenizer`] when the file is missing or broken, or when the tokenizer adds
    /// special tokens after a text.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::open_file(&folder.join("tokenizer.json"))
    }

    /// Returns the tokenizer of a `tokenizer.json`.
    ///
    /// # Errors
    /// As [`Tokenizer::open`].
    pub fn open_file(path: &Path) -> Result<Self> {
        let fail = |message: String| Error::new(ErrorKind::Tokenizer, message).at(path);
        let bytes = std::fs::read(path).map_err(|e| {
            fail(format!("cannot read the tokenizer: {e}"))
                .hint("the model folder needs `tokenizer.json`; save it with `AutoTokenizer.from_pretrained(...).save_pretrained(...)`")
        })?;
        guarded(READER, ErrorKind::Tokenizer, path, || Self::of_bytes(&bytes, path))
    }

    fn of_bytes(bytes: &[u8], path: &Path) -> Result<Self> {
        let fail = |message: String| Error::new(ErrorKind::Tokenizer, message).at(path);
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes)
            .map_err(|e| fail(format!("broken tokenizer: {e}")))?;
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|e| fail(format!("truncation cannot be switched off: {e}")))?;
        let encode = |text: &str, special| {
            inner.encode(text, special).map_err(|e| fail(format!("cannot tokenise: {e}")))
        };
        if path.parent().map_or(Ok(false), adds_nothing)? {
            encode("a", false)?;
            return Ok(Self { inner, prefix: Vec::new(), path: path.to_path_buf() });
        }
        let prefix = encode("", true)?.get_ids().to_vec();
        let with = encode("a", true)?.get_ids().to_vec();
        let without = encode("a", false)?.get_ids().to_vec();
        if with != [prefix.as_slice(), without.as_slice()].concat() {
            return Err(fail("the tokenizer adds special tokens after a text".into())
                .hint("a causal model's prompt must not be closed by an end token; remove it from `post_processor`"));
        }
        Ok(Self { inner, prefix, path: path.to_path_buf() })
    }

    /// Returns the special tokens that stand before every prompt (the begin token, or none).
    pub fn prefix(&self) -> &[u32] {
        &self.prefix
    }

    /// Returns `text` without the special tokens of [`Tokenizer::prefix`] spelled out at its
    /// beginning, which would stand twice.
    pub fn without_prefix<'a>(&self, text: &'a str) -> &'a str {
        let spelled: String =
            self.prefix.iter().filter_map(|&id| self.inner.id_to_token(id)).collect();
        text.strip_prefix(spelled.as_str()).unwrap_or(text)
    }

    /// Returns `text` with its tokens, no special ones added.
    ///
    /// # Errors
    /// [`ErrorKind::Tokenizer`] when the tokenizer refuses the text.
    pub fn encode(&self, text: &str) -> Result<Tokens> {
        let fail = |why: String| {
            let start: String = text.chars().take(40).collect();
            let message = format!("cannot tokenise `{start}...`: {why}");
            Error::new(ErrorKind::Tokenizer, message).at(&self.path)
        };
        let encoding = caught(|| self.inner.encode(text, false))
            .map_err(fail)?
            .map_err(|e| fail(e.to_string()))?;
        let is_in = |&(start, end): &(usize, usize)| start <= end && end <= text.len();
        if !encoding.get_offsets().iter().all(is_in) {
            return Err(fail("the tokens do not lie in the text".into()));
        }
        Ok(Tokens {
            text: text.to_owned(),
            ids: encoding.get_ids().to_vec(),
            starts: encoding.get_offsets().iter().map(|o| o.0).collect(),
            ends: encoding.get_offsets().iter().map(|o| o.1).collect(),
        })
    }

    /// Returns the text of `ids`.
    ///
    /// # Errors
    /// [`ErrorKind::Tokenizer`] when an id is not in the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let fail = |why: String| {
            Error::new(ErrorKind::Tokenizer, format!("cannot decode: {why}")).at(&self.path)
        };
        caught(|| self.inner.decode(ids, true)).map_err(fail)?.map_err(|e| fail(e.to_string()))
    }

    /// Returns `tokens` with `suffix` joined to its text, tokenised as one piece.
    ///
    /// Only the end of the old text is tokenised again. The overlap is widened until, past its first
    /// tokens (which lack their left context), it agrees with the old tokens; in the worst case the
    /// whole text is tokenised. Tokens at the join may change, as they do in a joint tokenisation.
    ///
    /// # Errors
    /// [`ErrorKind::Tokenizer`] when the tokenizer refuses the text.
    pub fn extend(&self, tokens: &Tokens, suffix: &str) -> Result<Tokens> {
        if suffix.is_empty() {
            return Ok(tokens.clone());
        }
        let text = [tokens.text.as_str(), suffix].concat();
        let mut overlap = OVERLAP;
        while overlap < tokens.ids.len() {
            let cut = tokens.ids.len() - overlap;
            let from = tokens.starts[cut];
            // A character can be several tokens with one range; cut only between characters.
            let clean = tokens.ends[cut - 1] <= from && text.is_char_boundary(from);
            if clean && let Some(joined) = self.join(tokens, cut, &text)? {
                return Ok(joined);
            }
            overlap *= 2;
        }
        self.encode(&text)
    }

    /// Tokenises `text` from token `cut` of `old` on; `None` when the overlap does not agree.
    fn join(&self, old: &Tokens, cut: usize, text: &str) -> Result<Option<Tokens>> {
        let from = old.starts[cut];
        let new = self.encode(&text[from..])?;
        let keep = cut + SETTLE;
        let Some(at) = new.starts.iter().position(|&s| s + from == old.starts[keep]) else {
            return Ok(None);
        };
        let agrees = (0..AGREE).all(|k| {
            new.ids.get(at + k) == Some(&old.ids[keep + k])
                && new.starts[at + k] + from == old.starts[keep + k]
        });
        if !agrees {
            return Ok(None);
        }
        let mut joined = Tokens {
            text: text.to_owned(),
            ids: old.ids[..keep].to_vec(),
            starts: old.starts[..keep].to_vec(),
            ends: old.ends[..keep].to_vec(),
        };
        joined.ids.extend_from_slice(&new.ids[at..]);
        joined.starts.extend(new.starts[at..].iter().map(|s| s + from));
        joined.ends.extend(new.ends[at..].iter().map(|e| e + from));
        Ok(Some(joined))
    }
}

/// Returns whether transformers 5.23 takes the tokenizer in `folder` for one that adds no special
/// tokens, whatever its `tokenizer.json` says: its class for GPT-NeoX builds the part that adds them
/// anew, from `add_bos_token`, which it reads from no folder that has a `tokenizer.json`. In all other
/// classes that file decides alone, and `add_bos_token` has no effect.
fn adds_nothing(folder: &Path) -> Result<bool> {
    let read = |name: &str| -> Result<Value> {
        let path = folder.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| {
                let error = Error::new(ErrorKind::Tokenizer, format!("broken JSON: {e}"));
                error.at_line(&path, e.line())
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
            Err(e) => Err(Error::io("read", &path, &e)),
        }
    };
    let class_of = |config: &Value| config["tokenizer_class"].as_str().map(str::to_owned);
    let (own, model) = (read("tokenizer_config.json")?, read("config.json")?);
    let class = class_of(&own).or_else(|| class_of(&model));
    Ok(match class {
        Some(class) => class.trim_end_matches("Fast") == "GPTNeoXTokenizer",
        None => model["model_type"] == "gpt_neox",
    })
}

impl Tokens {
    /// Returns the index of the first token that belongs to what follows the first `num_bytes` of
    /// the text: the first that ends after them.
    ///
    /// In `is ` + `True` the token ` True` begins inside the prompt and ends in the label, so it is the
    /// label's. This is the boundary of a text that stands alone; labels of one question share theirs:
    /// [`super::question_boundary`].
    pub fn boundary(&self, num_bytes: usize) -> usize {
        self.ends.iter().position(|&end| end > num_bytes).unwrap_or(self.ids.len())
    }
}
