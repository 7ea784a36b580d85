//! `--prior`: the shares of the labels that calibration supposes.

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::data::Task;
use crate::error::{Error, ErrorKind, Result};
use crate::score::{Calibration, Prior};

/// The shares of the labels that calibration supposes.
#[derive(Clone, Debug, Args, Serialize)]
pub struct PriorOptions {
    /// How frequent the labels are: equal, estimated (from the model's calibrated answers, without any
    /// label), or their shares, as in negative=0.1,positive=0.9, where one label may be left out
    /// [default: equal]
    #[arg(long, value_name = "equal|estimated|LABEL=SHARE,..")]
    pub prior: Option<String>,
}

/// How far shares of all labels may be from the sum 1.
const ROUNDING: f64 = 1e-6;

fn usage(message: String) -> Error {
    Error::new(ErrorKind::Usage, message)
}

impl PriorOptions {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn prior(text: &str, task: &str, calibration: Calibration) -> Result<Prior> {
        PriorOptions { prior: Some(text.into()) }.prior(&Task::load(task)?, calibration)
    }

    #[test]
    fn shares_are_read_by_label() {
        let read = |text| prior(text, "sentiment", Calibration::Batch).unwrap();
        assert_eq!(read("equal"), Prior::Equal);
        assert_eq!(read("estimated"), Prior::Estimated);
        assert_eq!(read("positive=0.75, negative=0.25"), Prior::Given(vec![0.25, 0.75]));
        assert_eq!(read("positive=0.75"), Prior::Given(vec![0.25, 0.75]));
        let none = PriorOptions { prior: None };
        let task = Task::load("sentiment").unwrap();
        assert_eq!(none.prior(&task, Calibration::None).unwrap(), Prior::Equal);
    }

    #[test]
    fn what_is_no_share_is_said() {
        for (text, part) in [
            ("even", "`even` is no LABEL=SHARE"),
            ("good=0.5", "`good` is no label, expected negative, positive"),
            ("positive=1", "`1` is no share between 0 and 1"),
            ("positive=nan", "`nan` is no share between 0 and 1"),
            ("positive=90%", "`90%` is no share between 0 and 1"),
            ("positive=0.5,positive=0.5", "`positive` has two shares"),
            ("positive=0.5,negative=0.4", "have the sum 0.9, expected 1"),
        ] {
            let error = prior(text, "sentiment", Calibration::Batch).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(error.message().contains(part), "{error}");
        }
        // Of three labels one may be left out, and something must be left to it.
        let three = |text| prior(text, "topic", Calibration::Batch);
        assert!(three("sports=0.5").unwrap_err().message().contains("2 labels have no share"));
        let all = three("sports=0.5,science=0.5").unwrap_err();
        assert!(all.message().contains("leaves nothing"), "{all}");
        assert!(matches!(three("sports=0.5,science=0.2").unwrap(), Prior::Given(_)));
    }

    #[test]
    fn a_prior_without_effect_is_refused() {
        for text in ["equal", "estimated", "positive=0.9"] {
            let error = prior(text, "sentiment", Calibration::None).unwrap_err();
            assert!(error.message().contains("no effect with `--calibrate none`"), "{error}");
        }
        for calibration in [Calibration::ContentFree, Calibration::BatchMeanProb] {
            assert!(prior("positive=0.9", "sentiment", calibration).is_err());
            assert!(prior("estimated", "sentiment", calibration).is_ok());
        }
        let options = prior("estimated", "multiple-choice", Calibration::Batch).unwrap_err();
        assert!(options.message().contains("options of a question"), "{options}");
    }
}
