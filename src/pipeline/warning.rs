//! What runs warn of: something that may not be what its user meant.
//!
//! Values only; the terminal finds the words and says what to do. An enum that is matched to its end
//! there, so that a warning without words does not build.

use std::path::PathBuf;

use crate::eval::Collapse;
use crate::score::{Halved, Misses};

/// Something that ends no run and should make a person look.
#[derive(Clone, Debug, PartialEq)]
pub enum Warning {
    /// A label word begins another, so that its probability holds that of the longer.
    BegunWord {
        /// The shorter.
        word: String,
        /// The longer.
        longer: String,
        /// How many lines of questions have such labels; none for a task's words.
        lines: Option<Part>,
    },
    /// A search without supervision starts from gold, or takes what tells it.
    GoldInSearch {
        /// By what.
        reason: String,
    },
    /// An option of a published command has no effect here.
    NoEffect(IgnoredFlag),
    /// Demonstrations have the text of test examples and are left out.
    SharedTexts {
        /// How many.
        num_demonstrations: usize,
    },
    /// The entropies in a table of answers are not those of its answers.
    OtherEntropy {
        /// Of how many questions.
        num_questions: usize,
    },
    /// Fewer records were left for a part than were asked for.
    SmallPart {
        /// The part's name.
        part: String,
        /// How many it has, of how many.
        records: Part,
    },
    /// A model's files say something that is not expected.
    Model {
        /// The model's folder.
        folder: PathBuf,
        /// What they say.
        remark: String,
    },
    /// Behind a server's name stands another model than when it was last asked.
    OtherModel {
        /// The server's address with the model's name.
        address: String,
        /// By what it was known.
        change: String,
    },
    /// A server does not give up an adapter that is no longer needed.
    AdapterStays {
        /// What it calls the adapter.
        name: String,
        /// Why.
        reason: String,
    },
    /// Labels were not among the most likely tokens that a server gives.
    Missed(Misses),
    /// Questions that are learnt were dropped by the filter that weighs them.
    DroppedLearnt {
        /// How many, of how many.
        questions: Part,
    },
    /// Prompts lose their beginning, as they are longer than the most tokens.
    Truncated {
        /// How many.
        num_prompts: usize,
    },
    /// Labels are no better against gold than those of nobody who looked at the texts.
    NoBetterThanBlind {
        /// The run folder.
        run: PathBuf,
        /// The 95 % interval of the accuracy.
        interval: (f64, f64),
        /// How often a guess is right.
        guess: f64,
        /// The most frequent gold label with its share, where its share is within the interval or above.
        constant: Option<(String, f64)>,
    },
    /// A training made few steps, or its loss hardly moved.
    LittleTrained {
        /// Steps of the optimizer.
        num_steps: usize,
        /// Mean loss of the first steps.
        first_loss: f64,
        /// Mean loss of the last steps.
        last_loss: f64,
    },
    /// Few examples are set aside in a loop, so that its brakes measure little.
    FewHeldOut {
        /// How many.
        num: usize,
    },
    /// Nearly all examples of a batch got the same label.
    Collapsed {
        /// The run folder.
        run: PathBuf,
        /// The batch, and when.
        collapse: Collapse,
        /// The entropy below which it is an alarm, in nats.
        below_nats: f64,
    },
    /// A filter kept every question.
    KeptAll {
        /// The run folder.
        run: PathBuf,
    },
    /// Memory ran out, and passes were made smaller.
    PassHalved(Halved),
    /// The entropy does not tell right labels from wrong ones.
    EntropyDoubted {
        /// The run folder.
        run: PathBuf,
        /// What reports say of it too.
        doubt: String,
    },
}

/// A part of a number of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// How many.
    pub num: usize,
    /// Of how many.
    pub of: usize,
}

/// An option of published commands that means nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IgnoredFlag {
    /// How many devices share the model.
    TensorParallelSize,
    /// The share of a GPU's memory.
    GpuMemoryUtilization,
}
