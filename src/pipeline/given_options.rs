//! The options that a command line gives besides what every run has.

use super::command_line::{command_of, parse};
use super::job::Job;

/// Options that say what is worked on and where, and how a run is gone on with.
const OF_EVERY_RUN: [&str; 14] = [
    "--model",
    "--adapter",
    "--task",
    "--data",
    "--field",
    "--id",
    "--out",
    "--resume",
    "--force",
    "--seed",
    "--device",
    "--dtype",
    "--method",
    "--preset",
];

/// Returns the options of a recorded command line that differ from the defaults, as they are typed, without
/// those that every run has; none for a command line that is not understood.
pub fn given_options(command_line: &[String]) -> Option<Vec<String>> {
    let mut job = parse(command_line.get(1..)?).ok()?;
    // The spelling of a published program asks for its preset.
    if let Job::Label(label) = &mut job {
        let _ = label.imply_preset(command_line);
    }
    let words = job.command_line();
    let (num_names, _) = command_of(&words[1..]);
    let mut given: Vec<String> = Vec::new();
    let mut is_own = false;
    for word in &words[1 + num_names..] {
        if word.starts_with("--") {
            let name = word.split('=').next().unwrap_or(word);
            is_own = !OF_EVERY_RUN.contains(&name);
            if is_own {
                given.push(word.clone());
            }
        } else if is_own && let Some(last) = given.last_mut() {
            *last = format!("{last} {word}");
        }
    }
    Some(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_the_defaults_is_given() {
        let of = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            given_options(&words)
        };
        let given = of(
            "w2s label --model m --task t --data d --out o --seed 3 --alpha 50.5 --resume --block auto",
        );
        assert_eq!(given.unwrap(), ["--alpha 50.5", "--block auto"]);
        let given = of("w2s train r --model m --out o --lr 5e-5 --reweight --epochs 9");
        assert_eq!(given.unwrap(), ["--reweight", "--epochs 9"]);
        assert_eq!(of("other thing"), None);
    }
}
