//! What is said of work as it goes on: jobs of a series, what is waited for, what a server cost, how to go
//! on after an end.

use w2s::pipeline::{Resume, Series, Wait};
use w2s::server::Spent;

use super::numbers::count;

/// What stands beside the spinner.
pub(in crate::cli) fn waiting(what: Wait) -> &'static str {
    match what {
        Wait::OpeningModel => "opening the model",
        Wait::OtherProcesses => "waiting for the other processes",
        Wait::Counting => "counting",
        Wait::Measuring => "measuring",
    }
}

/// How to go on when the user ends the program.
pub(in crate::cli) fn resume(how: Resume<'_>) -> String {
    match how {
        Resume::Run { folder } => format!(
            "nothing is lost. Continue with the same command and --resume (run folder {})",
            folder.display()
        ),
        Resume::Training { folder } => format!(
            "continue from the last checkpoint with the same command and --resume (run folder {})",
            folder.display()
        ),
        Resume::Recipe { folder } => format!(
            "nothing is lost. Continue with the same command (results in {})",
            folder.display()
        ),
        Resume::Loop { command } => format!(
            "nothing is lost. Continue the loop with: {}",
            command.unwrap_or("the same job, resumed")
        ),
    }
}

/// The head of a job of a series.
pub(super) fn series(step: &Series<'_>) -> String {
    let head = match step.place {
        Some(place) => format!("step {} of {}, {}", place.number, place.of, step.name),
        None => step.name.to_owned(),
    };
    match step.is_complete {
        true => format!("{head}: complete"),
        false => format!("\n{head}: {}", step.command),
    }
}

/// What was asked of a server and what it cost.
pub(super) fn spent(spent: &Spent) -> String {
    let mut line = format!(
        "  server: {} requests, {} answers were there already; {} tokens in, {} out",
        count(spent.num_requests),
        count(spent.num_kept),
        count(spent.tokens_in),
        count(spent.tokens_out)
    );
    if spent.tokens_in_remembered > 0 {
        line += &format!(" ({} remembered by it)", count(spent.tokens_in_remembered));
    }
    if let (Some(cost), Some(currency)) = (spent.cost, &spent.currency) {
        line += &format!("; {cost:.4} {currency}");
    }
    if let Some(cost) = spent.cost_by_server {
        line += &format!("; the server says {cost:.4}");
    }
    line
}
