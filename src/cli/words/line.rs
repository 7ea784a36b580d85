//! A text of the terminal, and where it goes.

/// A text for people, of a line or several.
#[derive(Debug)]
pub(in crate::cli) enum Line {
    /// To stderr.
    Said(String),
    /// To stdout, which is for results.
    Printed(String),
}
