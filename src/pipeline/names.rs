//! The words of the values that options take.

use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde::{Serialize, Serializer};

use crate::data::{ParserName, Rule, VariantKind};
use crate::eval::NoiseBy;
use crate::label::{Aggregate, Objective, Order, Preset, ScheduleKind};
use crate::score::Calibration;
use crate::train::{Decay, Normalise, TooLong};

/// Gives values of the library their words, and a line of help where a word does not say all.
macro_rules! words {
    ($type:ty { $($value:expr => $word:literal $(, $help:literal)?);+ $(;)? }) => {
        impl ValueEnum for $type {
            fn value_variants<'a>() -> &'a [Self] {
                &[$($value),+]
            }

            fn to_possible_value(&self) -> Option<PossibleValue> {
                let all = [$(($value, PossibleValue::new($word)$(.help($help))?)),+];
                all.into_iter().find(|(value, _)| value == self).map(|(_, word)| word)
            }
        }
    };
}

words!(Calibration {
    Self::Batch => "batch";
    Self::BatchMeanProb => "batch-mean-prob";
    Self::ContentFree => "content-free";
    Self::None => "none";
});
words!(Order { Self::Halving => "halving"; Self::Dataset => "dataset" });
words!(Objective {
    Self::Logprob => "logprob";
    Self::LogOdds => "log-odds";
    Self::Prequential => "prequential";
});
words!(Aggregate { Self::Mean => "mean"; Self::Sum => "sum" });
words!(ScheduleKind { Self::Log => "log"; Self::Paper => "paper"; Self::Exp => "exp" });
words!(VariantKind {
    Self::OptionOrders => "option-orders";
    Self::WordOrders => "word-orders";
    Self::Templates => "templates";
    Self::Paraphrases => "paraphrases";
});
words!(ParserName {
    Self::OptionLetter => "option-letter";
    Self::PublishedLetter => "published-letter";
    Self::LabelWord => "label-word";
    Self::PublishedWord => "published-word";
    Self::FirstLineNumber => "first-line-number";
    Self::FinalNumber => "final-number";
    Self::PublishedInteger => "published-integer";
});
words!(RuleChoice {
    Self::None => "none";
    Self::Rule(Rule::Contradiction) => "contradiction";
    Self::Rule(Rule::Implication) => "implication";
    Self::Rule(Rule::Asymmetry) => "asymmetry";
    Self::LeakyReference => "leaky-reference";
});
words!(NoiseBy { Self::Overall => "overall"; Self::Label => "label" });
words!(PresetName {
    Self::IcmPaper => "icm-paper";
    Self::IcmCode => "icm-code";
    Self::VllmFork => "vllm-fork";
    Self::NeutralFork => "neutral-fork";
});
words!(TooLong {
    Self::Truncate => "truncate", "Tokens are taken off the prompt's beginning";
    Self::Drop => "drop", "They are left out";
    Self::Refuse => "refuse", "They are an error";
});
words!(Decay {
    Self::Linear => "linear", "To zero, on a straight line";
    Self::Constant => "constant", "Not at all";
});
words!(Normalise {
    Self::Token => "token", "Number of target tokens of the whole batch";
    Self::Weighted => "weighted", "Sum of the weights of the target tokens";
    Self::Sequence => "sequence", "Number of sequences, each one's tokens averaged";
    Self::Reference => "reference", "Every position of the padded batch (published code)";
});

/// Settings that were published, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PresetName {
    /// The paper's: [`Preset::icm_paper`].
    IcmPaper,
    /// Those of the authors' code: [`Preset::icm_code`].
    IcmCode,
    /// [`Preset::vllm_fork`].
    VllmFork,
    /// [`Preset::neutral_fork`].
    NeutralFork,
}

impl From<PresetName> for Preset {
    fn from(name: PresetName) -> Self {
        match name {
            PresetName::IcmPaper => Self::icm_paper(),
            PresetName::IcmCode => Self::icm_code(),
            PresetName::VllmFork => Self::vllm_fork(),
            PresetName::NeutralFork => Self::neutral_fork(),
        }
    }
}

/// What one word of `--consistency` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleChoice {
    /// No rule.
    None,
    /// One rule.
    Rule(Rule),
    /// The published code's keys, which tell gold labels, with its rules.
    LeakyReference,
}

impl Serialize for RuleChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str("none"),
            Self::Rule(rule) => rule.serialize(serializer),
            Self::LeakyReference => serializer.serialize_str("leaky-reference"),
        }
    }
}

/// Labels to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitName {
    /// At random, each label as often as the others
    Random,
    /// Gold labels; the run is then marked as one that used gold
    Golden,
    /// Wrong labels, made from gold; marked likewise
    Worst,
    /// The model's answers without demonstrations, calibrated as the search is
    ZeroShot,
    /// At random, each by itself
    Unbalanced,
}
