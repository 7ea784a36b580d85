//! Help as people read it: `-h` shows the options that matter, `--help` all, groups in one order.

use clap::Command;

/// What `-h` shows of a command, by the long names of options; `--help` shows all. Commands that are not
/// named have few options and show them all.
pub(super) const SHORT: [(&str, &[&str]); 7] = [
    (
        "label",
        &[
            "data",
            "task",
            "field",
            "id",
            "method",
            "calibrate",
            "out",
            "resume",
            "seed",
            "model",
            "adapter",
            "device",
        ],
    ),
    (
        "filter",
        &[
            "data",
            "task",
            "field",
            "id",
            "entropy",
            "keep-fraction",
            "num-variants",
            "out",
            "resume",
            "model",
            "device",
        ],
    ),
    (
        "relabel",
        &["data", "task", "labels", "by", "margin", "out", "resume", "model", "adapter", "device"],
    ),
    ("score", &["input", "model", "adapter", "device"]),
    (
        "train",
        &[
            "data",
            "task",
            "labels",
            "answers",
            "reweight",
            "lr",
            "epochs",
            "batch-size",
            "full",
            "out",
            "resume",
            "model",
            "device",
        ],
    ),
    (
        "loop",
        &[
            "data", "task", "field", "id", "batches", "held-out", "filter", "relabel", "out",
            "resume", "model", "device",
        ],
    ),
    (
        "eval",
        &["gold", "gold-column", "per-label", "test", "demonstrations", "out", "model", "device"],
    ),
];

/// The groups in the order of help: what is worked on, how, where it goes, by what; then the rest. A group
/// is known by how its name begins.
const GROUPS: [&str; 20] = [
    "Data",
    "Input",
    "Labels",
    "Answers",
    "Held-out",
    "Method",
    "Filter",
    "Weights",
    "Rounds",
    "Loss",
    "Adapter",
    "Optimizer",
    "Run",
    "Model",
    "Search",
    "Baselines",
    "Brakes",
    "Validation",
    "Steps",
    "Server",
];

/// Returns the program's commands with the options of each that `-h` leaves out marked so.
pub(super) fn shortened(program: Command) -> Command {
    let mut program = program;
    for (name, shown) in SHORT {
        program = program.mut_subcommand(name, |command| {
            command.mut_args(|arg| {
                let is_shown =
                    arg.get_long().is_none_or(|long| shown.contains(&long) || long == "help");
                if is_shown { arg } else { arg.hide_short_help(true) }
            })
        });
    }
    program
}

/// Returns the program's commands with the options of each in the order of the groups: for help alone, as
/// what else a command demands of its arguments is not kept.
pub(super) fn in_order(program: Command) -> Command {
    program.mut_subcommands(|command| match command.has_subcommands() {
        true => in_order(command),
        false => sorted(&command),
    })
}

fn sorted(command: &Command) -> Command {
    let mut args: Vec<_> = command.get_arguments().cloned().collect();
    let place = |heading: &str| {
        GROUPS.iter().position(|group| heading.starts_with(group)).unwrap_or(GROUPS.len())
    };
    // Arguments without a group stand before all; groups that nobody ranked before servers.
    args.sort_by_key(|arg| match arg.get_help_heading() {
        None => (0, 0),
        Some(heading) if heading.starts_with("Server") => (2, 0),
        Some(heading) => (1, place(heading)),
    });
    let mut new = Command::new(command.get_name().to_owned()).args(args);
    for group in command.get_groups() {
        new = new.group(group.clone());
    }
    if let Some(about) = command.get_about() {
        new = new.about(about.clone());
    }
    if let Some(about) = command.get_long_about() {
        new = new.long_about(about.clone());
    }
    if let Some(order) = Some(command.get_display_order()) {
        new = new.display_order(order);
    }
    new
}
