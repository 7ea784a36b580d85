//! `w2s audit`: what a person's answers to a few rows prove of the labels of a run.
//!
//! Labels are fixed by their digest, the most confident ones become the set that is to be covered, and rows
//! of it are drawn: `draw`. Their answers give the exact bound: `certify`. `w2s export --guarantee` writes
//! what is covered. Each sheet is a folder `audit/N` of the run, which the program writes once and never
//! deletes: a person's work is in it.
//!
//! Sheets of the same labels are tests of nested sets in a fixed sequence: the next one, of a larger set, is
//! drawn once the last was certified, and none after one that failed, so that all that is certified holds
//! together with the confidence of each.
//!
//! # Source
//! METHODS, section 8: Learn-then-Test (Angelopoulos et al. 2021) for the sequence, PAC labels (arXiv
//! 2506.10908) and conformal labelling (arXiv 2510.14581) for what labels with a guarantee are good for.

mod certify;
mod covered;
mod draw;
mod record;
mod sheet;

use clap::{Args, Subcommand};

use super::session::Session;
use crate::error::Result;

pub use certify::CertifyJob;
pub(super) use certify::certify;
pub(super) use covered::{Covered, covered};
pub use draw::AuditDrawJob;
pub(super) use draw::draw;
pub use record::{AuditCertified, AuditDrawn, AuditPlan, Certificate};

/// Prove how many labels of a run are wrong, by answering a few rows
///
/// `draw` fixes the labels and draws rows of the most confident ones; you answer them, in a page or a
/// spreadsheet; `certify` says what the answers prove; `w2s export RUN --guarantee 0.05@0.95` writes the
/// labels that are covered and leaves out the rest.
#[derive(Clone, Debug, Args)]
pub struct AuditJob {
    /// What is done.
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// What is done with an audit; the help of each is that of its options.
#[derive(Clone, Debug, Subcommand)]
#[expect(missing_docs, reason = "a command's help is that of its options")]
pub enum AuditCommand {
    Draw(AuditDrawJob),
    Certify(CertifyJob),
}

pub(super) fn run(args: AuditJob, session: &Session) -> Result<()> {
    match args.command {
        AuditCommand::Draw(args) => draw(&args, session).map(drop),
        AuditCommand::Certify(args) => certify(&args, session).map(drop),
    }
}
