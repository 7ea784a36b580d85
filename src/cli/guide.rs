//! `w2s guide`: the guide's pages in the terminal.

use clap::Args;
use w2s::error::{Error, ErrorKind, Result};
use w2s::guide::{TOPICS, topic};

use super::terminal;

/// Show the guide: a page for each topic
///
/// Without a topic it lists them. The pages are Markdown; `cargo doc --open` shows the same.
///
/// Examples:
///   w2s guide
///   w2s guide audit | less
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct GuideArgs {
    /// The topic
    #[arg(value_name = "TOPIC")]
    topic: Option<String>,
}

pub(super) fn run(args: &GuideArgs) -> Result<()> {
    let Some(name) = &args.topic else {
        for topic in TOPICS {
            let name = topic.name.trim_end_matches('_');
            terminal::print(format_args!("{name:<12} {}", topic.about))?;
        }
        return Ok(());
    };
    let Some(found) = topic(name) else {
        let names: Vec<&str> =
            TOPICS.iter().map(|topic| topic.name.trim_end_matches('_')).collect();
        return Err(Error::new(ErrorKind::Usage, format!("the guide has no topic `{name}`"))
            .hint(format!("topics are {}", names.join(", "))));
    };
    terminal::print(format_args!("{}", found.text.trim_end()))
}
