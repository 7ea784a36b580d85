//! The values of command-line options that stand for values of the library.

use clap::ValueEnum;

use crate::data::Rule;
use crate::label::{Aggregate, Calibration, Objective, Order, ScheduleKind};

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
names!(RuleName => Option<Rule> {
    None => None,
    Contradiction => Some(Rule::Contradiction),
    Implication => Some(Rule::Implication),
    Asymmetry => Some(Rule::Asymmetry),
});
