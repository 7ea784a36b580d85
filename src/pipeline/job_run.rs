//! How jobs run: each by its verb.
//!
//! Nobody names this file: a job is told to run, so that a verb which runs jobs imports no verb.

use super::job::Job;
use super::{
    CompareJob, DataJob, EvaluateJob, ExplainJob, ExportJob, FilterJob, FilterSummary, LabelJob,
    LoopJob, MergeJob, Outcome, PlanJob, RelabelJob, RelabelSummary, ReportJob, ReproduceJob,
    ScoreJob, TrainJob, TrainSummary,
};
use super::{
    compare, data, evaluate, explain, export, filter, label, merge, plan, relabel, report,
    reproduce, rounds, score, session::Session, train,
};
use crate::error::Result;
use crate::label::Summary;

impl Job {
    /// Runs the job.
    ///
    /// # Errors
    /// What its verb refuses or fails at.
    pub fn run(self, session: &mut Session<'_>) -> Result<()> {
        match self {
            Self::Label(args) => label::run(*args, session).map(drop),
            Self::Filter(args) => filter::run(*args, session).map(drop),
            Self::Relabel(args) => relabel::run(*args, session).map(drop),
            Self::Score(args) => score::run(args, session),
            Self::Train(args) => train::run(*args, session).map(drop),
            Self::Loop(args) => rounds::run(*args, session),
            Self::Reproduce(args) => reproduce::run(args, session),
            Self::Plan(args) => plan::run(args, session),
            Self::Merge(args) => merge::run(args, session),
            Self::Eval(args) => evaluate::run(*args, session),
            Self::Compare(args) => compare::run(*args, session),
            Self::Report(args) => report::run(args, session),
            Self::Data(args) => data::run(args, session),
            Self::Explain(args) => explain::run(*args, session),
            Self::Export(args) => export::run(args, session),
        }
    }
}

impl LabelJob {
    /// Labels the data, in a run folder.
    ///
    /// ```no_run
    /// use w2s::pipeline::{LabelJob, ModelOptions, RunOptions, Session};
    ///
    /// let labelled = LabelJob {
    ///     model: ModelOptions::folder("models/gemma-3-270m"),
    ///     task: "sentiment".into(),
    ///     data: "reviews.jsonl".into(),
    ///     run: RunOptions::new("runs/mine"),
    ///     ..LabelJob::default()
    /// }
    /// .run(&mut Session::default())?;
    /// assert_eq!(labelled.summary.num_unlabelled, 0);
    /// # Ok::<(), w2s::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::error::ErrorKind::Usage) for options that do not go together,
    /// [`Run`](crate::error::ErrorKind::Run) for a folder that holds another run, and what reading the data,
    /// opening the model and scoring may meet.
    pub fn run(self, session: &mut Session<'_>) -> Result<Outcome<Summary>> {
        label::run(self, session)
    }
}

impl FilterJob {
    /// Asks the questions in variants, keeps the labels that are sure, and weighs them, in a run folder.
    ///
    /// ```no_run
    /// use w2s::pipeline::{FilterJob, ModelOptions, RunOptions, Session};
    ///
    /// let filtered = FilterJob {
    ///     model: Some(ModelOptions::folder("models/gemma-3-270m")),
    ///     task: "sentiment".into(),
    ///     data: Some("reviews.jsonl".into()),
    ///     run: RunOptions::new("runs/weak"),
    ///     ..FilterJob::default()
    /// }
    /// .run(&mut Session::default())?;
    /// println!("{} kept", filtered.summary.num_kept);
    /// # Ok::<(), w2s::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LabelJob::run`].
    pub fn run(self, session: &mut Session<'_>) -> Result<Outcome<FilterSummary>> {
        filter::run(self, session)
    }
}

impl RelabelJob {
    /// Has a model look at labels again, in a run folder.
    ///
    /// ```no_run
    /// use w2s::pipeline::{ModelOptions, RelabelJob, RunOptions, Session};
    ///
    /// let looked = RelabelJob {
    ///     model: ModelOptions {
    ///         adapter: Some("runs/student".into()),
    ///         ..ModelOptions::folder("models/gemma-3-270m")
    ///     },
    ///     task: "sentiment".into(),
    ///     data: "reviews.jsonl".into(),
    ///     labels: vec!["runs/mine/labels.jsonl".into()],
    ///     run: RunOptions::new("runs/again"),
    ///     ..RelabelJob::default()
    /// }
    /// .run(&mut Session::default())?;
    /// println!("{} contradicted", looked.summary.num_contradicted);
    /// # Ok::<(), w2s::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LabelJob::run`].
    pub fn run(self, session: &mut Session<'_>) -> Result<Outcome<RelabelSummary>> {
        relabel::run(self, session)
    }
}

impl TrainJob {
    /// Trains on labels, in a run folder. `None` in a process of a group that is not its first, which alone
    /// has the folder.
    ///
    /// ```no_run
    /// use w2s::pipeline::{ModelOptions, RunOptions, TrainJob, Session};
    ///
    /// let trained = TrainJob {
    ///     model: ModelOptions::folder("models/gemma-3-270m"),
    ///     task: "sentiment".into(),
    ///     data: "reviews.jsonl".into(),
    ///     labels: vec!["runs/mine/labels.jsonl".into()],
    ///     run: RunOptions::new("runs/student"),
    ///     ..TrainJob::default()
    /// }
    /// .run(&mut Session::default())?;
    /// println!("{:?}", trained.map(|trained| trained.summary.last_loss));
    /// # Ok::<(), w2s::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`LabelJob::run`], and [`ErrorKind::Numeric`](crate::error::ErrorKind::Numeric) for a loss that is
    /// no number.
    pub fn run(self, session: &mut Session<'_>) -> Result<Option<Outcome<TrainSummary>>> {
        train::run(self, session)
    }
}

macro_rules! runs {
    ($($job:ty, $module:ident, $what:literal, $example:literal;)+) => {$(
        impl $job {
            #[doc = $what]
            ///
            /// ```no_run
            #[doc = $example]
            /// # Ok::<(), w2s::error::Error>(())
            /// ```
            ///
            /// # Errors
            /// What the job refuses or fails at.
            pub fn run(self, session: &mut Session<'_>) -> Result<()> {
                $module::run(self, session)
            }
        }
    )+};
}

runs! {
    LoopJob, rounds, "Labels and trains in rounds, in a folder of run folders.", r#"use w2s::pipeline::{LoopJob, Session};

LoopJob {
    model: Some("models/gemma-3-270m".into()),
    task: Some("sentiment".into()),
    data: Some("reviews.jsonl".into()),
    out: Some("runs/loop".into()),
    ..LoopJob::default()
}
.run(&mut Session::default())?;"#;
    ScoreJob, score, "Tells the log-probabilities of labels after prompts, as results.", r#"use w2s::pipeline::{Event, ModelOptions, ScoreJob, Session};

let job = ScoreJob {
    model: ModelOptions::folder("models/gemma-3-270m"),
    input: "prompts.jsonl".into(),
    ..ScoreJob::default()
};
job.run(&mut Session::new(|event: &Event<'_>| {
    if let Event::Result(line) = event {
        println!("{line}");
    }
    Ok(())
}))?;"#;
    MergeJob, merge, "Merges an adapter into its model, in a folder.", r#"use w2s::pipeline::{MergeJob, ModelOptions, Session};

MergeJob {
    model: ModelOptions {
        adapter: Some("runs/student".into()),
        ..ModelOptions::folder("models/gemma-3-270m")
    },
    out: "models/student".into(),
    ..MergeJob::default()
}
.run(&mut Session::default())?;"#;
    EvaluateJob, evaluate, "Holds runs against gold, and writes what it finds into their folders.", r#"use w2s::pipeline::{EvaluateJob, Session};

EvaluateJob { runs: vec!["runs/mine".into()], gold: "gold.jsonl".into(), ..EvaluateJob::default() }
    .run(&mut Session::default())?;"#;
    CompareJob, compare, "Compares methods over runs and items, in a folder.", r#"use w2s::pipeline::{CompareJob, Session};

CompareJob {
    method: vec!["icm=runs/icm-0,runs/icm-1".into(), "gold=runs/gold".into()],
    gold: "gold.jsonl".into(),
    out: "comparison".into(),
    ..CompareJob::default()
}
.run(&mut Session::default())?;"#;
    ReportJob, report, "Draws figures and a page of runs, in a folder.", r#"use w2s::pipeline::{ReportJob, Session};

ReportJob { runs: vec!["runs/mine".into()], out: "report".into(), ..ReportJob::default() }
    .run(&mut Session::default())?;"#;
    DataJob, data, "Draws parts of a data file, or fetches a data set.", r#"use w2s::pipeline::{DataCommand, DataJob, DrawJob, RunOptions, Session};

let draw = DrawJob {
    data: "train.csv".into(),
    parts: vec![("gold".into(), 48), ("weak".into(), 240)],
    run: RunOptions::new("runs/draw"),
    ..DrawJob::default()
};
DataJob { command: DataCommand::Draw(draw) }.run(&mut Session::default())?;"#;
    ExplainJob, explain, "Asks a model to put the concept behind a run's labels in words.", r#"use w2s::pipeline::{ExplainJob, ModelOptions, Session};

ExplainJob {
    run: "runs/mine".into(),
    model: ModelOptions::folder("models/smollm2-135m-instruct"),
    ..ExplainJob::default()
}
.run(&mut Session::default())?;"#;
    ExportJob, export, "Writes a run's labels for other trainers, in a folder.", r#"use w2s::pipeline::{ExportJob, Format, Session};

ExportJob {
    run: "runs/weak".into(),
    format: Format::Trl,
    base_model: "Qwen/Qwen2.5-7B".into(),
    out: "export".into(),
    ..ExportJob::default()
}
.run(&mut Session::default())?;"#;
    PlanJob, plan, "Tells what a recipe or a job will cost.", r#"use w2s::pipeline::{PlanJob, Session};

PlanJob { recipe: Some("w2s-classic".into()), measure: 0.0, ..PlanJob::default() }
    .run(&mut Session::default())?;"#;
    ReproduceJob, reproduce, "Runs the steps of a recipe, in a folder.", r#"use w2s::pipeline::{ReproduceJob, Session};

ReproduceJob { recipe: Some("w2s-classic".into()), ..ReproduceJob::default() }
    .run(&mut Session::default())?;"#;
}
