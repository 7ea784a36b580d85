//! `w2s tasks`: what can be labelled without writing a task file.

use clap::Args;

use super::progress;
use crate::data::Task;
use crate::error::Result;

/// List the built-in tasks, or show one
#[derive(Debug, Args)]
pub(super) struct TasksArgs {
    /// Print the file of this task (a name, or the path of a task file, which is checked)
    #[arg(long, value_name = "TASK")]
    show: Option<String>,
}

pub(super) fn run(args: TasksArgs) -> Result<()> {
    if let Some(name) = args.show {
        let task = Task::load(&name)?;
        return progress::print(format_args!("{}", task.toml.trim_end()));
    }
    for (name, description) in Task::builtin() {
        progress::print(format_args!("{name:<24} {description}"))?;
    }
    Ok(())
}
