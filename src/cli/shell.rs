//! `w2s completions` and `w2s man`: what shells and `man` know of the program.

use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::{Shell, generate};

use super::terminal;
use w2s::error::{Error, ErrorKind, Result};
use w2s::run::write_atomic;

/// Print the completions of a shell
///
/// Examples:
///   w2s completions bash > ~/.local/share/bash-completion/completions/w2s
///   w2s completions zsh > ~/.zfunc/_w2s
///   w2s completions fish > ~/.config/fish/completions/w2s.fish
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Print the manual page, or write that of every command to a folder
///
/// Examples:
///   w2s man | man -l -
///   w2s man --out ~/.local/share/man/man1
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct ManArgs {
    /// Folder for the pages of all commands: w2s.1, w2s-label.1, ...
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn completions(args: &CompletionsArgs, mut program: Command) -> Result<()> {
    let mut text = Vec::new();
    generate(args.shell, &mut program, "w2s", &mut text);
    print(text)
}

pub(super) fn man(args: &ManArgs, program: Command) -> Result<()> {
    let Some(out) = &args.out else { return print(page(program)?) };
    std::fs::create_dir_all(out).map_err(|e| Error::io("make the folder", out, &e))?;
    pages(program, "w2s", out)
}

/// Writes the page of a command and of all below it.
fn pages(command: Command, name: &str, out: &Path) -> Result<()> {
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        pages(inner.clone(), &format!("{name}-{}", inner.get_name()), out)?;
    }
    let path = out.join(format!("{name}.1"));
    write_atomic(&path, &page(command.name(name.to_owned()).version(env!("CARGO_PKG_VERSION")))?)?;
    terminal::print(format_args!("{}", path.display()))
}

fn page(command: Command) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut text)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("no manual page: {e}")))?;
    Ok(text)
}

fn print(text: Vec<u8>) -> Result<()> {
    let text = String::from_utf8(text)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("not text: {e}")))?;
    terminal::print(format_args!("{}", text.trim_end()))
}
