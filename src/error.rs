//! The one error type of the crate: what went wrong, where, and what to do about it.
//!
//! Errors are facts for people: the message is lower case without a full stop and rounds values in
//! back-ticks, the place names the path (and line), the hint says what to do. The library never
//! prints them and never exits; `main` does both.

use std::fmt;
use std::path::{Path, PathBuf};

/// What an error is about; decides the exit code and lets tests name a failure without its prose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The command line or a combination of settings is wrong.
    Usage,
    /// The operating system refused to read or write something.
    Io,
    /// A data, label or demonstration file is at fault.
    Data,
    /// A task file is at fault.
    Task,
    /// A server of models refused, cannot be reached, or answers what cannot be used.
    Server,
    /// The Hugging Face hub refused, cannot be reached, or broke off.
    Hub,
    /// A model's `config.json` is missing, broken or asks for maths that is not supported.
    Config,
    /// A weight file is missing, truncated or does not fit its configuration.
    Checkpoint,
    /// A tokenizer file is missing or broken.
    Tokenizer,
    /// A prompt does not fit the model's context.
    Context,
    /// The device asked for cannot be used.
    Device,
    /// The model gave a number that cannot be used (NaN or infinite).
    Numeric,
    /// The processes of a training do not find each other, or one of them is gone.
    Group,
    /// A run folder is at fault: it exists, belongs to another command, or its journal is damaged.
    Run,
    /// A bug in this program.
    Internal,
}

/// Where in a file an error lies.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    path: PathBuf,
    line: Option<usize>,
}

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    place: Option<Place>,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// An error with its kind, message, place and hint.
#[derive(Debug)]
pub struct Error(Box<Inner>);

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Returns an error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            place: None,
            hint: None,
            source: None,
        }))
    }

    /// Returns the error for an operating-system failure on `path`, with a hint for the common ones.
    pub fn io(action: &str, path: &Path, source: &std::io::Error) -> Self {
        // An operating-system error cannot be cloned, only made again.
        let own = match source.raw_os_error() {
            Some(code) => std::io::Error::from_raw_os_error(code),
            None => std::io::Error::new(source.kind(), source.to_string()),
        };
        let error = Self::new(ErrorKind::Io, format!("cannot {action}: {source}"));
        let error = error.at(path).because(own);
        match source.kind() {
            std::io::ErrorKind::NotFound => error.hint("check the path; it does not exist"),
            std::io::ErrorKind::PermissionDenied => {
                error.hint("check the permissions, or choose another path")
            }
            std::io::ErrorKind::StorageFull => error.hint("the disk is full; free some space"),
            _ => error,
        }
    }

    /// Returns the error with the other error that it comes from, for `source()`; the message says it
    /// already.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Returns the error with the file it is about.
    #[must_use]
    pub fn at(mut self, path: impl AsRef<Path>) -> Self {
        let line = self.0.place.as_ref().and_then(|place| place.line);
        self.0.place = Some(Place { path: path.as_ref().to_path_buf(), line });
        self
    }

    /// Returns the error with the file and the one-based line it is about.
    #[must_use]
    pub fn at_line(mut self, path: impl AsRef<Path>, line: usize) -> Self {
        self.0.place = Some(Place { path: path.as_ref().to_path_buf(), line: Some(line) });
        self
    }

    /// Returns the error with a hint that says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Returns the error with `who` before its message.
    #[must_use]
    pub fn of(mut self, who: impl fmt::Display) -> Self {
        self.0.message = format!("{who}: {}", self.0.message);
        self
    }

    /// Returns what the error is about.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the message without place and hint.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the path and the one-based line the error names, where it names them.
    pub fn place(&self) -> Option<(&Path, Option<usize>)> {
        self.0.place.as_ref().map(|place| (place.path.as_path(), place.line))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(place) = &self.0.place {
            write!(f, "\n  in: `{}`", place.path.display())?;
            if let Some(line) = place.line {
                write!(f, ", line {line}")?;
            }
        }
        if let Some(hint) = &self.0.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.0.source.as_deref()?;
        Some(source)
    }
}

impl From<tch::TchError> for Error {
    fn from(source: tch::TchError) -> Self {
        // libtorch appends a C++ stack trace to its messages; only the first line is for people.
        let text = source.to_string();
        let line = text.lines().next().unwrap_or("unknown failure").to_owned();
        Self::new(ErrorKind::Internal, format!("libtorch: {line}")).because(source)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn an_error_knows_what_it_comes_from() {
        let path = Path::new("/nowhere/at/all");
        let error = std::fs::read(path).map_err(|e| Error::io("read", path, &e)).unwrap_err();
        let source = error.source().unwrap().downcast_ref::<std::io::Error>().unwrap();
        assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
        // Moved to another thread, and wrapped by whoever uses the crate.
        let boxed: Box<dyn std::error::Error + Send + Sync> = Box::new(error);
        assert!(boxed.to_string().starts_with("cannot read: "));
        assert!(Error::new(ErrorKind::Data, "no source").source().is_none());
    }
}
