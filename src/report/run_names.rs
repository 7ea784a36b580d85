//! What runs are called on the pages and in file names.

use std::collections::HashSet;

use super::files::Identity;

/// Returns what all runs have in common, where they do.
pub(super) fn common<R, T: PartialEq>(runs: &[R], value: impl Fn(&R) -> Option<T>) -> Option<T> {
    let first = value(runs.first()?)?;
    runs.iter().all(|run| value(run).as_ref() == Some(&first)).then_some(first)
}

/// Returns the title of a page of these runs.
pub(super) fn heading(runs: &[Identity]) -> String {
    let task = common(runs, |run| Some(run.task.clone()));
    let model = common(runs, |run| run.model.clone());
    let parts: Vec<String> = task.into_iter().chain(model).collect();
    if parts.is_empty() { "Accuracy".to_owned() } else { parts.join(", ") }
}

/// Returns a name for each run that tells it from the others.
pub(super) fn display_names(runs: &[Identity]) -> Vec<String> {
    let one_task = common(runs, |run| Some(run.task.clone())).is_some();
    let one_model = common(runs, |run| Some(run.model.clone())).is_some();
    let full_name = |run: &Identity| {
        let task = (!one_task).then(|| run.task.clone());
        let model = if one_model { None } else { run.model.clone() };
        let parts = [Some(run.method_name.clone()), task, model];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    };
    let names: Vec<String> = runs.iter().map(full_name).collect();
    let mut taken = HashSet::new();
    let tell_apart = |(name, run): (&String, &Identity)| {
        let shared = names.iter().filter(|other| *other == name).count() > 1;
        // A folder that is named after its method says it all.
        let name = match shared {
            false => name.clone(),
            true if run.folder.contains(&run.method) => run.folder.clone(),
            true => format!("{name} ({})", run.folder),
        };
        unused(&name, &mut taken)
    };
    names.iter().zip(runs).map(tell_apart).collect()
}

/// Returns `name`, numbered when it is taken already, and takes it.
pub(super) fn unused(name: &str, taken: &mut HashSet<String>) -> String {
    let mut candidate = name.to_owned();
    let mut number = 2;
    while !taken.insert(candidate.clone()) {
        candidate = format!("{name}-{number}");
        number += 1;
    }
    candidate
}

/// Returns the name as one of a file.
pub(super) fn safe(name: &str) -> String {
    let keep = |letter: char| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => letter,
        _ => '-',
    };
    name.chars().map(keep).collect()
}
