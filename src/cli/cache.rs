//! `w2s cache`: the answers of servers that are kept on this machine.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};

use super::terminal::{self, complain};
use super::words::count;
use w2s::error::{Error, ErrorKind, Result};
use w2s::score::MemorySize;
use w2s::server::AnswerStore;

/// Inspect or prune the response cache
///
/// Every answer of a server is written down before it is used, by the digest of what was asked, so
/// that a repeated or continued run asks and pays for nothing twice. Removed answers are asked again
/// when they are needed.
///
/// Examples:
///   w2s cache
///   w2s cache prune --older-than 30
///   w2s cache prune --all --server localhost
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, args_conflicts_with_subcommands = true)]
pub(super) struct CacheArgs {
    /// Folder of the answers [default: w2s in the user's folder of caches]
    #[arg(long, value_name = "DIR", global = true)]
    response_cache: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<CacheCommand>,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    /// Remove answers
    Prune(PruneArgs),
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("age").required(true)))]
struct PruneArgs {
    /// Those that came more than so many days ago
    #[arg(long, value_name = "DAYS", group = "age")]
    older_than: Option<u32>,
    /// All of them
    #[arg(long, group = "age")]
    all: bool,
    /// Only of servers whose address holds this text
    #[arg(long, value_name = "TEXT")]
    server: Option<String>,
}

const DAY: u64 = 24 * 3600;

pub(super) fn run(args: CacheArgs) -> Result<()> {
    let Some(folder) = args.response_cache.or_else(AnswerStore::default_folder) else {
        return Err(Error::new(ErrorKind::Usage, "there is no home folder")
            .hint("name a folder with `--response-cache DIR`"));
    };
    let Some(store) = AnswerStore::existing(&folder)? else {
        complain(format_args!("there are no answers in {}", folder.display()));
        return Ok(());
    };
    if let Some(CacheCommand::Prune(prune)) = args.command {
        let age = prune.older_than.map(|days| Duration::from_secs(u64::from(days) * DAY));
        let num = store.prune(age, prune.server.as_deref())?;
        complain(format_args!("removed {} answers", count(num)));
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    let on_disk = std::fs::metadata(store.path()).map_or(0, |facts| facts.len());
    terminal::print(format_args!("{}: {}", store.path().display(), MemorySize(on_disk)))?;
    for size in store.sizes()? {
        terminal::print(format_args!(
            "{}#{}: {} answers, {}, {} to {} days old",
            size.server,
            size.model,
            count(size.num_answers),
            MemorySize(size.num_bytes),
            now.saturating_sub(size.newest) / DAY,
            now.saturating_sub(size.oldest) / DAY
        ))?;
    }
    Ok(())
}
