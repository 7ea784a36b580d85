//! `--prior`: the shares of the labels that calibration supposes.

use clap::Args;
use serde_json::{Map, Value};

use crate::data::Task;
use crate::error::{Error, ErrorKind, Result};
use crate::score::{Calibration, Prior};

/// The shares of the labels that calibration supposes.
#[derive(Clone, Debug, Args)]
pub(super) struct PriorArgs {
    /// How frequent the labels are: equal, estimated (from the model's calibrated answers, without any
    /// label), or their shares, as in negative=0.1,positive=0.9, where one label may be left out
    /// [default: equal]
    #[arg(long, value_name = "equal|estimated|LABEL=SHARE,..")]
    prior: Option<String>,
}

/// How far shares of all labels may be from the sum 1.
const ROUNDING: f64 = 1e-6;

fn usage(message: String) -> Error {
    Error::new(ErrorKind::Usage, message)
}

impl PriorArgs {
    /// Whether one is given.
    pub(super) fn is_given(&self) -> bool {
        self.prior.is_some()
    }

    /// The shares that `calibration` is to suppose of the labels of `task`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for shares that are none, and where a prior has no effect.
    pub(super) fn prior(&self, task: &Task, calibration: Calibration) -> Result<Prior> {
        let Some(text) = self.prior.as_deref() else { return Ok(Prior::Equal) };
        let prior = match text {
            "equal" => Prior::Equal,
            "estimated" => Prior::Estimated,
            _ => Prior::Given(shares(text, task)?),
        };
        if prior != Prior::Equal && task.has_options() {
            return Err(usage(format!(
                "`--prior` has no effect with task `{}`: its labels are the options of a question",
                task.name
            ))
            .hint("leave it out"));
        }
        match (&prior, calibration) {
            (_, Calibration::None) => {
                Err(usage("`--prior` has no effect with `--calibrate none`".into())
                    .hint("the prior is what calibration supposes; leave one of the two out"))
            }
            (Prior::Given(_), Calibration::ContentFree | Calibration::BatchMeanProb) => {
                Err(usage("given shares of `--prior` take the place of this calibration".into())
                    .hint("leave out `--calibrate`, or use `--prior estimated`"))
            }
            _ => Ok(prior),
        }
    }
}

/// The shares that a text states, by the number of the label.
fn shares(text: &str, task: &Task) -> Result<Vec<f64>> {
    let names: Vec<&str> = task.labels.iter().map(|label| label.name.as_str()).collect();
    let example = || {
        let even = 1.0 / names.len().max(1) as f64;
        let each: Vec<String> = names.iter().map(|name| format!("{name}={even:.2}")).collect();
        format!("write `equal`, `estimated`, or shares such as `{}`", each.join(","))
    };
    let mut stated: Vec<Option<f64>> = vec![None; names.len()];
    for part in text.split(',') {
        let wrong = |what: String| Err(usage(format!("`--prior {text}`: {what}")).hint(example()));
        let Some((name, share)) = part.split_once('=') else {
            return wrong(format!("`{part}` is no LABEL=SHARE"));
        };
        let (name, share) = (name.trim(), share.trim());
        let Some(label) = names.iter().position(|known| *known == name) else {
            return wrong(format!("`{name}` is no label, expected {}", names.join(", ")));
        };
        match share.parse::<f64>() {
            Ok(share) if share > 0.0 && share < 1.0 => {
                if stated[label].replace(share).is_some() {
                    return wrong(format!("`{name}` has two shares"));
                }
            }
            _ => return wrong(format!("`{share}` is no share between 0 and 1")),
        }
    }
    let sum: f64 = stated.iter().flatten().sum();
    let left = 1.0 - sum;
    let num_left_out = stated.iter().filter(|share| share.is_none()).count();
    let fits = match num_left_out {
        0 => left.abs() <= ROUNDING,
        1 => left > ROUNDING,
        _ => false,
    };
    if !fits {
        let what = match num_left_out {
            0 => format!("the shares have the sum {sum}, expected 1"),
            1 => format!("the shares have the sum {sum}, which leaves nothing to the other label"),
            num => format!("{num} labels have no share, expected one at most"),
        };
        return Err(usage(format!("`--prior {text}`: {what}")).hint(example()));
    }
    Ok(stated.into_iter().map(|share| share.unwrap_or(left)).collect())
}

/// Notes the prior in a manifest's settings, where there is a calibration to suppose it.
pub(super) fn insert(
    settings: &mut Map<String, Value>,
    (prior, calibration): (&Prior, Calibration),
    task: &Task,
) {
    if calibration == Calibration::None {
        return;
    }
    let value = match prior {
        Prior::Equal => "equal".into(),
        Prior::Estimated => "estimated".into(),
        Prior::Given(shares) => {
            let each = task.labels.iter().zip(shares);
            Value::Object(
                each.map(|(label, share)| (label.name.clone(), (*share).into())).collect(),
            )
        }
    };
    settings.insert("prior".into(), value);
}
