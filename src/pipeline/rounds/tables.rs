//! Options of commands in a TOML file: a key is an option's long name, a value what would be typed.
//!
//! What a table says is text of the user's: it becomes words and is understood by the command's own
//! parser, so that a file can set all that can be typed and nothing else. Errors name the file, the line and the
//! key.
//!
//! Tables are not read by `Deserialize` of the options groups: a second reader beside clap's would say every
//! alias, delimiter, range and word again (`value_parser`s, `1,0.5`, `LABEL=SHARE`, `auto|N`), and the two
//! could differ. One parser means that an option is in files at once, by the names and with the refusals it
//! has when it is typed.

use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Command};
use toml::de::{DeTable, DeValue};

use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::command_line::Refused;

/// One option that a file sets.
#[derive(Clone, Debug)]
struct Given {
    /// The option's long name, whichever of its names was written.
    name: String,
    /// The name that was written.
    written: String,
    words: Vec<String>,
    /// The one-based line; `None` for what was typed.
    line: Option<usize>,
}

/// The options of one command.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// The file; `None` for what was typed.
    path: Option<PathBuf>,
    /// The table's name; empty for the file's own keys.
    table: String,
    /// The parser of the command whose options they are.
    command: Command,
    given: Vec<Given>,
}

/// A TOML file's text with the places of its keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl<'a> Source<'a> {
    /// Returns the tables of the file.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with the line for what is no TOML.
    pub(super) fn parse(self) -> Result<DeTable<'a>> {
        DeTable::parse(self.text).map(toml::Spanned::into_inner).map_err(|fault| {
            let message = fault.message().lines().next().unwrap_or("not a TOML file").to_owned();
            match fault.span() {
                Some(span) => self.fault(span, message),
                None => Error::new(ErrorKind::Usage, message).at(self.path),
            }
        })
    }

    /// Returns an error about a place of the file.
    pub(super) fn fault(self, span: Range<usize>, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Usage, message).at_line(self.path, self.line(span.start))
    }

    fn line(self, at: usize) -> usize {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        1 + before.iter().filter(|&&byte| byte == b'\n').count()
    }
}

impl Options {
    /// Returns no options of `command`.
    pub(super) fn none(command: Command) -> Self {
        Self { path: None, table: command.get_name().to_owned(), command, given: Vec::new() }
    }

    /// Adds what a table sets, or the keys of the file itself for an empty `table`: tables within are
    /// left out.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with the line for a key that is no option, and a value that cannot be one's.
    pub(super) fn read(
        &mut self,
        source: Source<'_>,
        table: &str,
        values: &DeTable<'_>,
    ) -> Result<()> {
        self.path = Some(source.path.to_path_buf());
        table.clone_into(&mut self.table);
        for (key, value) in values {
            if table.is_empty() && value.get_ref().is_table() {
                continue;
            }
            let fault = |message: String| source.fault(key.span(), message);
            let name = key.get_ref().as_ref();
            let words = words(&self.command, name, value.get_ref()).map_err(|reason| {
                fault(self.says(name, &reason)).hint(format!(
                    "`w2s {} --help` lists the options; keys are their long names",
                    self.command.get_name()
                ))
            })?;
            let line = Some(source.line(key.span().start));
            self.given.push(Given {
                name: long_name(&self.command, name),
                written: name.to_owned(),
                words,
                line,
            });
        }
        Ok(())
    }

    /// Returns the parser of the command whose options they are.
    pub(super) fn parser(&self) -> Command {
        self.command.clone()
    }

    /// Sets an option, in place of what a file says of it.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        let written = name.to_owned();
        let words = match (takes_value(&self.command, name), value) {
            (Some(false), "true") => vec![format!("--{name}")],
            (Some(false), "false") => Vec::new(),
            _ => vec![format!("--{name}={value}")],
        };
        let name = long_name(&self.command, name);
        self.given.retain(|given| given.name != name);
        self.given.push(Given { name, written, words, line: None });
    }

    /// Returns the words of the command line.
    pub(super) fn words(&self) -> impl Iterator<Item = String> + '_ {
        self.given.iter().flat_map(|given| given.words.iter().cloned())
    }

    /// Returns whether the option of this long name is set, by whichever of its names.
    pub(super) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn find(&self, name: &str) -> Option<&Given> {
        self.given.iter().find(|given| given.name == name)
    }

    /// Returns the error for an option that may not be set here.
    pub(super) fn forbidden(&self, name: &str, why: &str) -> Error {
        let written = self.find(name).map_or(name, |given| given.written.as_str());
        self.at(name, self.says(written, why))
    }

    /// Returns the error of a command line that these words are part of, at the key it is about.
    pub(super) fn refused(&self, refused: Refused) -> Error {
        match refused.option.clone() {
            Some(name) if self.has(&name) => self.at(&name, refused.message),
            _ => refused.error(),
        }
    }

    fn at(&self, name: &str, message: String) -> Error {
        let error = Error::new(ErrorKind::Usage, message);
        match (&self.path, self.find(name).and_then(|given| given.line)) {
            (Some(path), Some(line)) => error.at_line(path, line),
            _ => error,
        }
    }

    fn says(&self, name: &str, what: &str) -> String {
        match self.table.is_empty() {
            true => format!("key `{name}`: {what}"),
            false => format!("key `{name}` of [{}]: {what}", self.table),
        }
    }
}

/// What a command calls one of its options by, in full, and whether it takes a value; `None` if there is
/// no such option.
fn option(command: &Command, name: &str) -> Option<(String, bool)> {
    let found = command.get_arguments().find(|arg| {
        arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|all| all.contains(&name))
    })?;
    Some((found.get_long().unwrap_or(name).to_owned(), found.get_action().takes_values()))
}

/// Whether each of an option's values is a word of its own.
fn is_repeated(command: &Command, name: &str) -> bool {
    command.get_arguments().any(|arg| {
        arg.get_long() == Some(name)
            && matches!(arg.get_action(), ArgAction::Append)
            && arg.get_value_delimiter().is_none()
    })
}

fn takes_value(command: &Command, name: &str) -> Option<bool> {
    option(command, name).map(|(_, takes_value)| takes_value)
}

/// The long name of an option that is written so; what is no option, as it is.
fn long_name(command: &Command, name: &str) -> String {
    option(command, name).map_or_else(|| name.to_owned(), |(name, _)| name)
}

/// The words of one option, or why there are none.
fn words(
    command: &Command,
    name: &str,
    value: &DeValue<'_>,
) -> std::result::Result<Vec<String>, String> {
    let Some(takes_value) = takes_value(command, name) else {
        return Err(format!("`w2s {}` has no option `--{name}`", command.get_name()));
    };
    let text = |value: &DeValue<'_>| -> std::result::Result<String, String> {
        Ok(match value {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(yes) => yes.to_string(),
            other => {
                return Err(format!(
                    "expected a text, a number or true, got a {}",
                    other.type_str()
                ));
            }
        })
    };
    match value {
        DeValue::Boolean(true) if !takes_value => Ok(vec![format!("--{name}")]),
        DeValue::Boolean(false) if !takes_value => Ok(Vec::new()),
        _ if !takes_value => Err("expected true or false".into()),
        DeValue::Array(all) => {
            let all: Vec<String> = all
                .iter()
                .map(|value| text(value.get_ref()))
                .collect::<std::result::Result<_, _>>()?;
            if is_repeated(command, name) {
                return Ok(all.iter().map(|one| format!("--{name}={one}")).collect());
            }
            Ok(vec![format!("--{name}={}", all.join(","))])
        }
        value => Ok(vec![format!("--{name}={}", text(value)?)]),
    }
}
