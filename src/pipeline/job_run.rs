//! How jobs run: each by its verb.
//!
//! Nobody names this file: a job is told to run, so that a verb which runs jobs imports no verb.

use std::path::PathBuf;

use super::job::Job;
use super::{
    AuditCertified, AuditDrawJob, AuditDrawn, CertifyJob, CompareJob, DataJob, DrawJob,
    DrawSummary, EvaluateJob, Evaluated, ExplainJob, Explanation, ExportJob, Exported, FilterJob,
    FilterSummary, LabelJob, LoopJob, MergeJob, Outcome, Plan, PlanJob, PromptScores, PullJob,
    RelabelJob, RelabelSummary, ReportJob, ReproduceJob, Reproduction, ScoreJob, TrainJob,
    TrainSummary,
};
use super::{
    audit, compare, data, evaluate, explain, export, filter, label, merge, plan, relabel, report,
    reproduce, rounds, score, session::Session, train,
};
use crate::error::Result;
use crate::eval::Comparison;
use crate::label::Summary;
use crate::report::ReportSummary;
use crate::run::{LoopRecord, RunDir};

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
            Self::Score(args) => score::run(args, session).map(drop),
            Self::Train(args) => train::run(*args, session).map(drop),
            Self::Loop(args) => rounds::run(*args, session).map(drop),
            Self::Reproduce(args) => reproduce::run(args, session).map(drop),
            Self::Plan(args) => plan::run(args, session).map(drop),
            Self::Merge(args) => merge::run(args, session).map(drop),
            Self::Eval(args) => evaluate::run(*args, session).map(drop),
            Self::Compare(args) => compare::run(*args, session).map(drop),
            Self::Report(args) => report::run(args, session).map(drop),
            Self::Audit(args) => audit::run(args, session),
            Self::Data(args) => data::run(args, session),
            Self::Explain(args) => explain::run(*args, session).map(drop),
            Self::Export(args) => export::run(args, session).map(drop),
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
    ($($job:ty, $module:ident, $found:ty, $what:literal, $example:literal;)+) => {$(
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
            pub fn run(self, session: &mut Session<'_>) -> Result<$found> {
                $module::run(self, session)
            }
        }
    )+};
}

runs! {
    LoopJob, rounds, Outcome<LoopRecord>, "Labels and trains in rounds, in a folder of run folders.", r#"use w2s::pipeline::{LoopJob, Session};

let looped = LoopJob {
    model: Some("models/gemma-3-270m".into()),
    task: Some("sentiment".into()),
    data: Some("reviews.jsonl".into()),
    out: Some("runs/loop".into()),
    ..LoopJob::default()
}
.run(&mut Session::default())?;
println!("{} labels, stopped: {:?}", looped.summary.num_labels, looped.summary.stopped);"#;
    ScoreJob, score, Vec<PromptScores>, "Returns the log-probabilities of labels after prompts, and tells each as it is found.", r#"use w2s::pipeline::{ModelOptions, ScoreJob, Session};

let job = ScoreJob {
    model: ModelOptions::folder("models/gemma-3-270m"),
    input: "prompts.jsonl".into(),
    ..ScoreJob::default()
};
for prompt in job.run(&mut Session::default())? {
    for of in &prompt.labels {
        println!("{} {} {:.4} nats", prompt.id, of.label, of.logprob);
    }
}"#;
    MergeJob, merge, RunDir, "Merges an adapter into its model, and returns the folder.", r#"use w2s::pipeline::{MergeJob, ModelOptions, Session};

let folder = MergeJob {
    model: ModelOptions {
        adapter: Some("runs/student".into()),
        ..ModelOptions::folder("models/gemma-3-270m")
    },
    out: "models/student".into(),
    ..MergeJob::default()
}
.run(&mut Session::default())?;
assert!(folder.file("config.json").exists());"#;
    EvaluateJob, evaluate, Evaluated, "Holds runs against gold, and writes what it finds into their folders too.", r#"use w2s::pipeline::{EvaluateJob, Session};

let found =
    EvaluateJob { runs: vec!["runs/mine".into()], gold: "gold.jsonl".into(), ..EvaluateJob::default() }
        .run(&mut Session::default())?;
for (run, of) in &found.labels {
    println!("{} {:.1} %", run.display(), 100.0 * of.accuracy);
}"#;
    CompareJob, compare, Comparison, "Compares methods over runs and items, and writes the comparison with its figures.", r#"use w2s::pipeline::{CompareJob, Session};

let comparison = CompareJob {
    method: vec!["icm=runs/icm-0,runs/icm-1".into(), "gold=runs/gold".into()],
    gold: "gold.jsonl".into(),
    out: "comparison".into(),
    ..CompareJob::default()
}
.run(&mut Session::default())?;
println!("p = {}", comparison.columns[0].pairs[0].p);"#;
    ReportJob, report, ReportSummary, "Draws figures and pages of runs, in a folder.", r#"use w2s::pipeline::{ReportJob, Session};

let drawn =
    ReportJob { runs: vec!["runs/mine".into()], out: "report".into(), ..ReportJob::default() }
        .run(&mut Session::default())?;
println!("{} files", drawn.files.len());"#;
    ExplainJob, explain, Explanation, "Asks a model to put the concept behind a run's labels in words.", r#"use w2s::pipeline::{ExplainJob, ModelOptions, Session};

let explanation = ExplainJob {
    run: "runs/mine".into(),
    model: ModelOptions::folder("models/smollm2-135m-instruct"),
    ..ExplainJob::default()
}
.run(&mut Session::default())?;
println!("{}", explanation.text);"#;
    ExportJob, export, Exported, "Writes a run's labels for other trainers, in a folder.", r#"use w2s::pipeline::{ExportJob, Format, Session};

let exported = ExportJob {
    run: "runs/weak".into(),
    format: Format::Trl,
    base_model: "Qwen/Qwen2.5-7B".into(),
    out: "export".into(),
    ..ExportJob::default()
}
.run(&mut Session::default())?;
println!("{} rows", exported.num_rows);"#;
    PlanJob, plan, Plan, "Returns what a recipe or a job will cost.", r#"use w2s::pipeline::{Job, LabelJob, ModelOptions, PlanJob, Session};

// A recipe ..
let plan = PlanJob { recipe: Some("w2s-classic".into()), measure: 0.0, ..PlanJob::default() }
    .run(&mut Session::default())?;
for step in &plan.steps {
    println!("{}: {} runs, {} tokens", step.step, step.num_runs, step.work.num_tokens);
}
// .. or a job, with the time that it takes on this machine.
let job = Job::Label(Box::new(LabelJob {
    model: ModelOptions::folder("models/gemma-3-270m"),
    task: "sentiment".into(),
    data: "reviews.jsonl".into(),
    ..LabelJob::default()
}));
let plan = PlanJob::of(&job).run(&mut Session::default())?;
println!("{:?} s, {} bytes", plan.seconds, plan.peak_bytes);"#;
    ReproduceJob, reproduce, Reproduction, "Runs the steps of a recipe, in a folder.", r#"use w2s::pipeline::{ReproduceJob, Reproduction, Session};

let done = ReproduceJob { recipe: Some("w2s-classic".into()), ..ReproduceJob::default() }
    .run(&mut Session::default())?;
if let Reproduction::Results { results, .. } = done {
    for of in &results {
        println!("{} {}: {:.3}, published {:?}", of.set, of.method, of.accuracy, of.published);
    }
}"#;
    DataJob, data, (), "Draws parts of a data file, or fetches a data set: whichever the job is.", r#"use w2s::pipeline::{DataCommand, DataJob, PullJob, Session};

let pull = PullJob { name: "truthfulqa".into(), ..PullJob::default() };
DataJob { command: DataCommand::Pull(pull) }.run(&mut Session::default())?;"#;
}

impl AuditDrawJob {
    /// Draws the rows of an audit, and writes them as a page and a spreadsheet.
    ///
    /// ```no_run
    /// use w2s::pipeline::{AuditDrawJob, Session};
    ///
    /// let drawn = AuditDrawJob { run: "runs/mine".into(), budget: 60, ..AuditDrawJob::default() }
    ///     .run(&mut Session::default())?;
    /// println!("answer {} rows of {}", drawn.plan.rows.len(), drawn.folder.display());
    /// # Ok::<(), w2s::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Data`](crate::error::ErrorKind::Data) for a guarantee that cannot be reached, and
    /// [`Run`](crate::error::ErrorKind::Run) where another audit of these labels waits or failed.
    pub fn run(self, session: &mut Session<'_>) -> Result<AuditDrawn> {
        audit::draw(&self, session)
    }
}

impl CertifyJob {
    /// Says what the answers to an audit prove, and writes it beside the sheet.
    ///
    /// ```no_run
    /// use w2s::pipeline::{CertifyJob, Session};
    ///
    /// let judged = CertifyJob {
    ///     run: "runs/mine".into(),
    ///     answers: "answers.csv".into(),
    ///     ..CertifyJob::default()
    /// }
    /// .run(&mut Session::default())?;
    /// println!("at most {:.1} % wrong", 100.0 * judged.certificate.proved_error());
    /// # Ok::<(), w2s::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Data`](crate::error::ErrorKind::Data) for answers that are missing, unknown or to other
    /// rows, and [`Run`](crate::error::ErrorKind::Run) where no audit waits for them.
    pub fn run(self, session: &mut Session<'_>) -> Result<AuditCertified> {
        audit::certify(&self, session)
    }
}

impl PullJob {
    /// Fetches a data set from the hub, and returns the files.
    ///
    /// ```no_run
    /// use w2s::pipeline::{PullJob, Session};
    ///
    /// let files = PullJob { name: "truthfulqa".into(), ..PullJob::default() }
    ///     .run(&mut Session::default())?;
    /// println!("{}", files[0].display());
    /// # Ok::<(), w2s::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Hub`](crate::error::ErrorKind::Hub) when it cannot be reached or has no such file.
    pub fn run(self, session: &mut Session<'_>) -> Result<Vec<PathBuf>> {
        data::pull(&self, session)
    }
}

impl DrawJob {
    /// Draws parts of a data file, in a run folder.
    ///
    /// ```no_run
    /// use w2s::pipeline::{DrawJob, RunOptions, Session};
    ///
    /// let drawn = DrawJob {
    ///     data: "train.csv".into(),
    ///     parts: vec![("gold".into(), 48), ("weak".into(), 240)],
    ///     run: RunOptions::new("runs/draw"),
    ///     ..DrawJob::default()
    /// }
    /// .run(&mut Session::default())?;
    /// println!("{} records fit", drawn.summary.num_fit);
    /// # Ok::<(), w2s::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Data`](crate::error::ErrorKind::Data) where too few records are left for a part, and
    /// [`Run`](crate::error::ErrorKind::Run) for a folder that holds another run.
    pub fn run(self, session: &mut Session<'_>) -> Result<Outcome<DrawSummary>> {
        data::draw(&self, session)
    }
}
