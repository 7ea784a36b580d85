//! The values of command-line options that stand for values of the library.

use clap::ValueEnum;

use crate::data::{ParserName, Rule, VariantKind};
use crate::label::{Aggregate, Objective, Order, Preset, ScheduleKind};
use crate::score::Calibration;

/// Declares a value enum of the command line with its translation.
macro_rules! names {
    ($name:ident => $target:ty { $($variant:ident => $value:expr),+ $(,)? }) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
        pub(super) enum $name { $($variant),+ }
        impl From<$name> for $target {
            fn from(name: $name) -> Self {
                match name { $($name::$variant => $value),+ }
            }
        }
    };
}

names!(CalibrationName => Calibration {
    Batch => Calibration::Batch,
    BatchMeanProb => Calibration::BatchMeanProb,
    ContentFree => Calibration::ContentFree,
    None => Calibration::None,
});
names!(OrderName => Order { Halving => Order::Halving, Dataset => Order::Dataset });
names!(ObjectiveName => Objective {
    Logprob => Objective::Logprob,
    LogOdds => Objective::LogOdds,
    Prequential => Objective::Prequential,
});
names!(AggregateName => Aggregate { Mean => Aggregate::Mean, Sum => Aggregate::Sum });
names!(ScheduleName => ScheduleKind {
    Log => ScheduleKind::Log,
    Paper => ScheduleKind::Paper,
    Exp => ScheduleKind::Exp,
});
names!(RuleName => RuleChoice {
    None => RuleChoice::None,
    Contradiction => RuleChoice::Rule(Rule::Contradiction),
    Implication => RuleChoice::Rule(Rule::Implication),
    Asymmetry => RuleChoice::Rule(Rule::Asymmetry),
    LeakyReference => RuleChoice::LeakyReference,
});
names!(PresetName => Preset {
    IcmPaper => Preset::icm_paper(),
    IcmCode => Preset::icm_code(),
    VllmFork => Preset::vllm_fork(),
    NeutralFork => Preset::neutral_fork(),
});

names!(VariantOption => VariantKind {
    OptionOrders => VariantKind::OptionOrders,
    WordOrders => VariantKind::WordOrders,
    Templates => VariantKind::Templates,
    Paraphrases => VariantKind::Paraphrases,
});
names!(ParserOption => ParserName {
    OptionLetter => ParserName::OptionLetter,
    PublishedLetter => ParserName::PublishedLetter,
    LabelWord => ParserName::LabelWord,
    PublishedWord => ParserName::PublishedWord,
    FirstLineNumber => ParserName::FirstLineNumber,
    FinalNumber => ParserName::FinalNumber,
    PublishedInteger => ParserName::PublishedInteger,
});

/// What one word of `--consistency` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RuleChoice {
    None,
    Rule(Rule),
    /// The published code's keys, which tell gold labels, with its rules.
    LeakyReference,
}

/// Labels to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum InitName {
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
