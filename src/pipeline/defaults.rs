//! Jobs and options as they are where nothing is given: what the command line takes, by construction.

use clap::{ArgAction, Args, Command};

use super::{
    AuditDrawJob, BaselineOptions, CertifyJob, CompareJob, DrawJob, EvaluateJob, ExplainJob,
    ExportJob, FilterJob, HeldOutOptions, LabelJob, LoopJob, LossOptions, MergeJob, ModelOptions,
    PlaceOptions, PlanJob, PriorOptions, PublishedOptions, PullJob, RelabelJob, ReportJob,
    ReproduceJob, RunOptions, ScoreJob, SearchOptions, ServerOptions, TrainJob,
};

/// Stands for a value that must be given. No file has this name.
const MISSING: &str = "(not given)";

/// What the command line makes of no arguments.
fn of_nothing<T: Args>() -> T {
    let mut words = vec!["w2s".to_owned()];
    let all = T::augment_args(Command::new("w2s").ignore_errors(true)).mut_args(|arg| {
        let is_list = matches!(arg.get_action(), ArgAction::Append);
        if !arg.is_required_set() || !arg.get_action().takes_values() || is_list {
            return arg.required(false);
        }
        // Of words to choose from, the first stands for none.
        match (arg.get_long(), arg.get_possible_values().first()) {
            (Some(name), Some(word)) => {
                words.push(format!("--{name}={}", word.get_name()));
                arg.required(false)
            }
            _ => arg.required(false).default_value(MISSING),
        }
    });
    let matches = all.get_matches_from(words);
    match T::from_arg_matches(&matches) {
        Ok(options) => options,
        // A test makes each of them.
        Err(e) => unreachable!("options without arguments: {e}"),
    }
}

macro_rules! defaults {
    ($($type:ty),+ $(,)?) => {$(
        impl Default for $type {
            /// What `w2s` takes where nothing is given. What must be given is `(not given)`, or the first of the
            /// words to choose from.
            fn default() -> Self {
                of_nothing()
            }
        }
    )+};
}

defaults!(
    AuditDrawJob,
    BaselineOptions,
    CertifyJob,
    CompareJob,
    DrawJob,
    EvaluateJob,
    ExplainJob,
    ExportJob,
    FilterJob,
    HeldOutOptions,
    LabelJob,
    LoopJob,
    LossOptions,
    MergeJob,
    ModelOptions,
    PlaceOptions,
    PlanJob,
    PriorOptions,
    PublishedOptions,
    PullJob,
    RelabelJob,
    ReportJob,
    ReproduceJob,
    RunOptions,
    ScoreJob,
    SearchOptions,
    ServerOptions,
    TrainJob,
);

#[cfg(test)]
mod tests {
    use super::super::IdsOptions;
    use super::*;

    #[test]
    fn defaults_are_those_of_the_command_line() {
        let label = LabelJob::default();
        assert_eq!((label.task.as_str(), label.run.seed), (MISSING, 0));
        assert_eq!(label.run.out.to_str(), Some(MISSING));
        let given = ["w2s", "--model", "m", "--task", "t", "--data", "d", "--out", "o"];
        let typed = LabelJob::augment_args(Command::new("w2s")).get_matches_from(given);
        use clap::FromArgMatches;
        let typed = LabelJob::from_arg_matches(&typed).unwrap();
        let built = LabelJob {
            model: ModelOptions::folder("m"),
            task: "t".into(),
            data: "d".into(),
            run: RunOptions::new("o"),
            ..LabelJob::default()
        };
        assert_eq!(format!("{built:?}"), format!("{typed:?}"));
    }

    #[test]
    fn every_job_has_defaults() {
        let _ = (CompareJob::default(), DrawJob::default(), EvaluateJob::default());
        let _ = (ExplainJob::default(), ExportJob::default(), FilterJob::default());
        let _ = (MergeJob::default(), RelabelJob::default(), ReportJob::default());
        let _ = (LoopJob::default(), PlanJob::default(), ReproduceJob::default());
        let _ = (ScoreJob::default(), PlaceOptions::default(), PullJob::default());
        let _ = (TrainJob::default(), HeldOutOptions::default(), IdsOptions::default());
    }
}
