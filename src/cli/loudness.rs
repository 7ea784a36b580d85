//! How much the program says.

/// How much is said besides results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Loudness {
    /// Warnings only.
    Quiet,
    /// What a person wants to know.
    #[default]
    Plain,
    /// All settings too.
    Verbose,
}
