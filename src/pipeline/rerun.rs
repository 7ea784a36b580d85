//! `w2s rerun`: the job of a run, with some of its options replaced.

use std::collections::HashSet;
use std::path::Path;

use clap::{ArgAction, Command};

use super::command_line::{command_of, parse};
use super::job::Job;
use crate::error::{Error, ErrorKind, Result};
use crate::run::RunDir;

/// Returns the job that a run's command line comes to when the options in `more` replace its own. An
/// option that may be given several times is replaced whole.
///
/// # Errors
/// [`ErrorKind::Run`] where there is no run, or its command line is not known any more;
/// [`ErrorKind::Usage`] for what the parser refuses, and where no other folder is named.
pub fn rerun(run: &Path, more: &[String]) -> Result<Job> {
    let (_, manifest) = RunDir::existing(run)?;
    let old = manifest.command_line.get(1..).unwrap_or_default();
    let mut job = parse(old).map_err(|refused| {
        let message = format!("the run's command line is not understood: {}", refused.message);
        Error::new(ErrorKind::Run, message).at(run).hint(
            "it was made by a program that is no command line of w2s, or by another version; type the command anew",
        )
    })?;
    // Flags in the spelling of a published program ask for its preset; the spelling is lost below.
    if let Job::Label(label) = &mut job {
        let _ = label.imply_preset(old);
    }
    let own = &job.command_line()[1..];
    let (num_names, command) = command_of(own);
    let named: HashSet<String> = more.iter().filter_map(|word| long_name(&command, word)).collect();
    if job.out().is_some() && !named.contains("out") {
        return Err(Error::new(ErrorKind::Usage, "`--out NEW` is missing")
            .hint("a run is not made over itself; name a folder for the new one"));
    }
    let (options, last) = match own.iter().position(|word| word == "--") {
        Some(at) => own.split_at(at),
        None => (own, &[][..]),
    };
    let mut words = own[..num_names].to_vec();
    let mut rest = options[num_names..].iter();
    while let Some(word) = rest.next() {
        let name = long_name(&command, word);
        let takes = name.as_deref().is_some_and(|name| takes_next(&command, name, word));
        let value = if takes { rest.next() } else { None };
        // How a run was gone on with is no part of what it is.
        let is_state = |name: &str| ["resume", "force"].contains(&name);
        if name.is_some_and(|name| named.contains(&name) || is_state(&name)) {
            continue;
        }
        words.push(word.clone());
        words.extend(value.cloned());
    }
    words.extend_from_slice(more);
    words.extend_from_slice(last);
    parse(&words).map_err(|refused| refused.error())
}

/// The long name of the option that a word sets; none for a word that is none.
fn long_name(command: &Command, word: &str) -> Option<String> {
    let written = word.strip_prefix("--")?;
    let written = written.split_once('=').map_or(written, |(name, _)| name);
    let found = command.get_arguments().find(|arg| {
        arg.get_long() == Some(written)
            || arg.get_all_aliases().is_some_and(|all| all.contains(&written))
    })?;
    found.get_long().map(str::to_owned)
}

/// Whether the word after `word` is the option's value.
fn takes_next(command: &Command, name: &str, word: &str) -> bool {
    let found = command.get_arguments().find(|arg| arg.get_long() == Some(name));
    !word.contains('=')
        && found.is_some_and(|arg| {
            matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
                && !arg.is_require_equals_set()
        })
}
