//! The noise control: labels made wrong at random until they are as accurate as a method's.
//!
//! If a model does as well with them for demonstrations as with the method's labels, the method's
//! errors are no better than chance errors.

use rand::Rng;
use rand::seq::SliceRandom;
use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::run::SeedStream;

/// Which accuracy the noise keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseBy {
    /// The accuracy of all labels together: every example is as likely to be made wrong.
    #[default]
    Overall,
    /// The accuracy of every gold label by itself, each rounded to whole examples.
    Label,
}

/// Returns the labels with just so many made wrong that the share `accuracy` is right, to the
/// nearest example (a half is rounded to more wrong ones). Which ones are wrong, and to which of the
/// other labels, is drawn evenly from `streams`.
///
/// # Errors
/// [`ErrorKind::Usage`] when the accuracy is not within 0 and 1.
pub fn noisy_labels(
    labels: &[usize],
    num_labels: usize,
    accuracy: f64,
    by: NoiseBy,
    streams: SeedStream,
) -> Result<Vec<usize>> {
    if !(0.0..=1.0).contains(&accuracy) {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("the accuracy of the noise is {accuracy}, expected 0 to 1"),
        )
        .hint("give a share such as 0.84, not a percentage"));
    }
    let strata: Vec<Vec<usize>> = match by {
        NoiseBy::Overall => vec![(0..labels.len()).collect()],
        NoiseBy::Label => (0..num_labels)
            .map(|label| (0..labels.len()).filter(|&i| labels[i] == label).collect())
            .collect(),
    };
    let mut noisy = labels.to_vec();
    for (stratum, mut examples) in strata.into_iter().enumerate() {
        let mut rng = streams.rng("eval/noise", &[stratum as u64]);
        let num_wrong = ((1.0 - accuracy) * examples.len() as f64).round() as usize;
        examples.shuffle(&mut rng);
        for &i in &examples[..num_wrong] {
            let other = rng.random_range(0..num_labels - 1);
            noisy[i] = if other >= labels[i] { other + 1 } else { other };
        }
    }
    Ok(noisy)
}
