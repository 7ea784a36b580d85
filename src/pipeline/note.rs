//! What runs tell that is no result and no fault: where they go on, what they leave out, what they use.
//!
//! Values only; the terminal finds the words. An enum that is matched to its end there, so that a note
//! without words does not build.

use std::path::PathBuf;

use crate::eval::ClosestColumn;
use crate::score::RouteKind;
use crate::server::NamedBy;

/// Something that is as it should be, and that a person wants to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// The run was complete before: nothing is done.
    RunComplete {
        /// Its folder.
        folder: PathBuf,
    },
    /// The loop was complete before: nothing is done.
    LoopComplete {
        /// Its folder.
        folder: PathBuf,
    },
    /// The test file was labelled before: its labels are evaluated.
    HeldOutComplete {
        /// The folder of the labels.
        folder: PathBuf,
    },
    /// A run with the same settings and inputs was copied instead of being made again.
    RunCopied {
        /// Its folder.
        from: PathBuf,
    },
    /// An interrupted run goes on: the answers to these passes are in its journal.
    PassesContinued {
        /// How many.
        num_passes: usize,
    },
    /// An interrupted training goes on from its checkpoint.
    StepsContinued {
        /// The last step that was made before.
        step: usize,
    },
    /// Gold has a part in the run.
    GoldUsed {
        /// By what.
        reason: String,
    },
    /// Records that are not of the task's kind are left out.
    OtherKind {
        /// How many.
        num_records: usize,
    },
    /// The model is the one that the adapter was trained on.
    ModelFollows {
        /// The adapter's folder.
        adapter: PathBuf,
        /// The model's.
        model: PathBuf,
    },
    /// A training learns what a run says.
    RunFollowed {
        /// The run.
        run: PathBuf,
        /// Its task.
        task: String,
        /// Its data.
        data: PathBuf,
        /// The files of labels and answers.
        files: Vec<PathBuf>,
    },
    /// The columns of a table are parted by another character than its name says.
    Separator {
        /// The file.
        data: PathBuf,
        /// The character.
        separator: char,
    },
    /// Settings of a published code are taken, as the command line is spelled like one of its own.
    PresetImplied {
        /// The flag that only that code spells so.
        flag: &'static str,
        /// The preset's name.
        preset: &'static str,
    },
    /// Several processes train together.
    ProcessesJoined {
        /// How many.
        num_processes: usize,
    },
    /// The processes sum gradients on the CPU.
    SummedOnCpu {
        /// Why NCCL cannot be used.
        reason: String,
    },
    /// Another program makes the steps.
    EngineBegan {
        /// In how many processes.
        num_processes: usize,
    },
    /// A server labels with an adapter from here on.
    AdapterLoaded {
        /// The server's address.
        server: String,
        /// What it calls the adapter.
        name: String,
    },
    /// Something of the data is not learnt.
    LeftOut {
        /// How many.
        num: usize,
        /// What they are.
        what: LeftOut,
    },
    /// A file of the hub was fetched before.
    FromCache {
        /// Its path in the repository.
        file: String,
    },
    /// A server was found, and a way to what is asked of it.
    Route(ServedRoute),
    /// Of several gold columns, the labels come closest to this.
    ClosestColumn {
        /// The run folder.
        run: PathBuf,
        /// The column, and how close.
        closest: ClosestColumn,
    },
    /// The gold file does not know all questions of a filter's run.
    PartOfGold {
        /// The run folder.
        run: PathBuf,
        /// Questions with gold, of which the accuracies speak.
        num_with_gold: usize,
        /// All questions.
        num_questions: usize,
    },
    /// A comparison and its figures are written.
    ComparisonWritten {
        /// The comparison's file.
        path: PathBuf,
    },
    /// A recipe begins.
    Recipe {
        /// What it reproduces.
        title: String,
        /// Where that was published.
        source: String,
        /// How many jobs it is.
        num_steps: usize,
    },
}

/// What a training leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// Examples without a label.
    Unlabelled,
    /// Answers that could not be read.
    Unread,
    /// Items of weight 0.
    Weightless,
    /// Items that are longer than the most tokens.
    TooLong,
}

/// A model behind a server, and the way to what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedRoute {
    /// The server's address with the model's name.
    pub address: String,
    /// What the server runs, where it is known.
    pub software: Option<String>,
    /// The way to log-probabilities; none where only texts are written.
    pub route: Option<RouteKind>,
    /// How tokens are named on the route by token ids.
    pub named_by: Option<NamedBy>,
    /// How many of the most likely tokens the server was seen to give, on a route that is not exact.
    pub num_most_likely: usize,
}
