//! `w2s tasks`: what can be labelled without writing a task file.

use clap::{Args, Subcommand};

use super::words::begun_word;
use super::{new_task, terminal};
use w2s::data::{PromptSpec, Task, VariantKind};
use w2s::error::Result;

/// List the built-in tasks, show one, or write one for your own data
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct TasksArgs {
    #[command(subcommand)]
    command: Option<TasksCommand>,
    /// Show this task: prompt variants, labels, gold columns, consistency, data set on the hub (a
    /// name, or the path of a task file, which is checked)
    #[arg(value_name = "TASK", conflicts_with = "show")]
    task: Option<String>,
    /// Print the file of this task, to start another from
    #[arg(long, value_name = "TASK")]
    show: Option<String>,
}

#[derive(Debug, Subcommand)]
enum TasksCommand {
    New(new_task::NewArgs),
}

pub(super) fn run(args: TasksArgs) -> Result<()> {
    if let Some(TasksCommand::New(args)) = args.command {
        return new_task::run(args);
    }
    if let Some(name) = args.show {
        let task = Task::load(&name)?;
        return terminal::print(format_args!("{}", task.toml.trim_end()));
    }
    if let Some(name) = args.task {
        let task = Task::load(&name)?;
        terminal::print(format_args!("{}", described(&task).trim_end()))?;
        let mut told = Vec::new();
        for pair in task.variants.iter().flat_map(PromptSpec::begun_words) {
            if !told.contains(&pair) {
                terminal::complain(format_args!("{}", begun_word(pair.0, pair.1)));
                told.push(pair);
            }
        }
        return Ok(());
    }
    for (name, description) in Task::builtin() {
        terminal::print(format_args!("{name:<24} {description}"))?;
    }
    Ok(())
}

fn described(task: &Task) -> String {
    let list = |names: Vec<&str>| if names.is_empty() { "-".to_owned() } else { names.join(", ") };
    let names: Vec<&str> = task.labels.iter().map(|label| label.name.as_str()).collect();
    let labels = match names.as_slice() {
        _ if task.has_options() => "A, B, ... as many as a question has options".to_owned(),
        [] => "none: answers are open".to_owned(),
        names => format!("{} (positive: {})", names.join(", "), names[task.positive]),
    };
    let kinds = task.possible_variants().into_iter().map(VariantKind::name).collect();
    let rules: Vec<String> =
        task.rules.iter().map(|rule| format!("{rule:?}").to_lowercase()).collect();
    let mut text = format!(
        "{}: {}\n  source       {}\n  labels       {labels}\n  fields       {}\n  gold columns {}\n  consistency  {}\n  variants by  {}\n",
        task.name,
        task.description,
        task.source,
        list(task.field_names().collect()),
        list(task.gold_names().collect()),
        list(rules.iter().map(String::as_str).collect()),
        list(kinds),
    );
    if let Some(hub) = &task.hub {
        let splits: Vec<&str> = hub.files.keys().map(String::as_str).collect();
        text += &format!(
            "  hub          {} ({}; {} unless asked)\n",
            hub.repo,
            splits.join(", "),
            hub.split
        );
    }
    for (index, variant) in task.variants.iter().enumerate() {
        let note = if index == 0 { " (used unless --prompt-variant names another)" } else { "" };
        text += &format!("\nprompt variant {}{note}\n{}", variant.name, prompt(variant));
    }
    text
}

fn prompt(variant: &PromptSpec) -> String {
    let mut text = String::new();
    if !variant.instruction.is_empty() {
        text += &format!("  instruction {:?}\n", variant.instruction);
    }
    text += &format!(
        "  question    {:?}\n  words       {}\n",
        variant.template,
        variant.words.join(", ")
    );
    for case in &variant.cases {
        text += &format!(
            "  if {} is {}:\n  question    {:?}\n  words       {}\n",
            case.field,
            case.values().join(" or "),
            case.template,
            case.words.join(", ")
        );
    }
    text += &format!("  separator   {:?}\n", variant.separator);
    text + &format!("  chat        {:?}\n", variant.chat_request)
}
