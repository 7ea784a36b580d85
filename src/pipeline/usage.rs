//! The errors of wrong options.

use crate::error::{Error, ErrorKind};

/// The error of a wrong command line.
pub(super) fn usage(message: String) -> Error {
    Error::new(ErrorKind::Usage, message)
}

/// The error of a wrong option, with what to do.
pub(super) fn wrong(message: impl Into<String>, hint: &str) -> Error {
    usage(message.into()).hint(hint)
}

/// The error for an option that changes nothing.
pub(super) fn no_effect(option: &str, with: &str) -> Error {
    usage(format!("`--{option}` has no effect {with}")).hint("leave it out")
}
