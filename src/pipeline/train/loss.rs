//! The options of what is minimised in training.

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::error::Result;
use crate::pipeline::field_values;
use crate::pipeline::usage::{no_effect, usage};
use crate::train::{ClassLoss, Loss, Normalise};

/// The loss of a training.
#[derive(Clone, Debug, Args, Serialize)]
#[command(next_help_heading = "Loss")]
pub struct LossOptions {
    /// Training loss; all but xent are losses over the distribution of labels
    #[arg(long, value_enum, default_value_t = LossName::Xent)]
    pub loss: LossName,
    /// What a batch's loss is divided by
    #[arg(long, value_enum, default_value_t = Normalise::Token)]
    pub normalise: Normalise,
    /// Share of the model's own prediction in the target (logconf, logconf-published, entropy)
    /// [default: 0.5]
    #[arg(long, value_name = "SHARE")]
    pub aux: Option<f64>,
    /// Share of the steps over which it rises (logconf, logconf-published, entropy) [default: 0.1]
    #[arg(long, value_name = "SHARE")]
    pub aux_warmup: Option<f64>,
    /// Powers of the weak and of the model's own distribution (product) [default: 1,1]
    #[serde(serialize_with = "field_values::comma")]
    #[arg(long, value_name = "ALPHA,BETA", value_parser = powers)]
    pub powers: Option<(f64, f64)>,
}

/// A loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossName {
    /// Cross-entropy of the answer's tokens and the end token
    Xent,
    /// Cross-entropy of the distribution of labels
    LabelXent,
    /// Towards the model's own confident predictions, linear warm-up (Burns et al. 2023)
    Logconf,
    /// The same as the published code: the warm-up ends in a jump
    LogconfPublished,
    /// Target: the product of the weak and the model's own distribution
    Product,
    /// Divergence from the weak distribution
    Kl,
    /// As logconf with the model's predictions as they are
    Entropy,
}

fn powers(text: &str) -> std::result::Result<(f64, f64), String> {
    let parts: Option<Vec<f64>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
    match parts.as_deref() {
        Some(&[alpha, beta]) if alpha >= 0.0 && beta >= 0.0 && (alpha + beta).is_finite() => {
            Ok((alpha, beta))
        }
        _ => Err("expected two numbers from 0 up, such as `1,0.5`".into()),
    }
}

impl LossOptions {
    /// Refuses options without effect and shares out of range.
    pub(super) fn check(&self) -> Result<()> {
        let mixes =
            matches!(self.loss, LossName::Logconf | LossName::LogconfPublished | LossName::Entropy);
        if !mixes && (self.aux.is_some() || self.aux_warmup.is_some()) {
            return Err(no_effect("aux", "with this loss"));
        }
        if self.powers.is_some() && self.loss != LossName::Product {
            return Err(no_effect("powers", "with this loss"));
        }
        for (option, share) in [("aux", self.aux), ("aux-warmup", self.aux_warmup)] {
            if let Some(share) = share.filter(|share| !(0.0..=1.0).contains(share)) {
                return Err(usage(format!(
                    "`--{option}` is {share}, expected a share from 0 to 1"
                )));
            }
        }
        Ok(())
    }

    pub(super) fn loss(&self) -> Loss {
        let aux = self.aux.unwrap_or(0.5);
        let warmup = self.aux_warmup.unwrap_or(0.1);
        let (alpha, beta) = self.powers.unwrap_or((1.0, 1.0));
        let logconf = |published| ClassLoss::Logconf { aux, warmup, published };
        Loss::Class(match self.loss {
            LossName::Xent => return Loss::Tokens,
            LossName::LabelXent => ClassLoss::Xent,
            LossName::Logconf => logconf(false),
            LossName::LogconfPublished => logconf(true),
            LossName::Product => ClassLoss::Product { alpha, beta },
            LossName::Kl => ClassLoss::Kl,
            LossName::Entropy => ClassLoss::Entropy { aux, warmup },
        })
    }
}
