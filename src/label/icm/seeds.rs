//! The start of a search: its first labels, and the shares that answers without demonstrations suggest.

use std::collections::HashMap;

use rand::Rng;
use rand::seq::SliceRandom;

use super::init::Init;
use super::state::{Icm, Labels};
use crate::error::{Error, ErrorKind, Result};
use crate::label::order::{Epoch, OrderOptions, OrderPlan};
use crate::score::Scorer;
use crate::score::{Calibration, Prior, best_label, distribution, estimated_shares};

/// Examples with their log-probabilities.
type Rows = Vec<(usize, Vec<f64>)>;

impl<S: Scorer + ?Sized> Icm<'_, S> {
    /// Labels for a few random examples.
    pub(super) fn seeds(&mut self) -> Result<Labels> {
        let mut rng = self.streams.rng("icm/seeds", &[self.batch]);
        let mut examples: Vec<usize> = (0..self.items.len()).collect();
        examples.shuffle(&mut rng);
        if let Init::Given(given) = &self.settings.init {
            examples.retain(|&i| given.labels.contains_key(&self.items.ids[i]));
            if examples.len() < 2 {
                return Err(Error::new(
                    ErrorKind::Data,
                    format!(
                        "`--init {}` has a label for {} of the {} examples of batch {}, expected at least 2",
                        given.name,
                        examples.len(),
                        self.items.len(),
                        self.batch
                    ),
                )
                .hint("labels are joined by id; search more examples together, or start otherwise"));
            }
        }
        examples.truncate(self.settings.num_seed);
        let num_labels = self.label_names.len();
        let chosen: Vec<usize> = match &self.settings.init {
            Init::Balanced => (0..examples.len()).map(|k| k % num_labels).collect(),
            Init::Unbalanced => examples.iter().map(|_| rng.random_range(0..num_labels)).collect(),
            Init::Given(given) => {
                examples.iter().map(|&i| given.labels[&self.items.ids[i]]).collect()
            }
            Init::ZeroShot => self.zero_shot(&examples)?,
        };
        let mut labels = vec![None; self.items.len()];
        for (i, label) in examples.into_iter().zip(chosen) {
            labels[i] = Some(label);
        }
        Ok(labels)
    }

    /// What the model answers for `examples` without demonstrations. Batch calibration looks at all
    /// examples: the mean of a few is a poor guess of the bias.
    fn zero_shot(&mut self, examples: &[usize]) -> Result<Vec<usize>> {
        let (raw, offset) = self.alone(examples)?;
        let answers: HashMap<usize, usize> =
            raw.iter().map(|(i, row)| (*i, best_label(&distribution(row, &offset)))).collect();
        Ok(examples.iter().map(|i| answers[i]).collect())
    }

    /// Puts the shares that the model's answers without demonstrations suggest in the place of those
    /// that are to be estimated.
    pub(super) fn estimate_prior(&mut self) -> Result<()> {
        if self.settings.prior != Prior::Estimated {
            return Ok(());
        }
        // The search looks at the shares from here on.
        self.settings.prior = Prior::Equal;
        let all: Vec<usize> = (0..self.items.len()).collect();
        let (raw, offset) = self.alone(&all)?;
        let calibrated: Vec<Vec<f64>> =
            raw.iter().map(|(_, row)| distribution(row, &offset)).collect();
        let shares = estimated_shares(&calibrated, self.label_names.len());
        self.estimated_shares = Some(shares);
        Ok(())
    }

    /// The log-probabilities of `examples`, and more where calibration needs them, without
    /// demonstrations, and the offset of their calibration.
    fn alone(&mut self, examples: &[usize]) -> Result<(Rows, Vec<f64>)> {
        let nothing = vec![None; self.items.len()];
        let plan = OrderPlan::new(
            OrderOptions::DATASET,
            self.items,
            &nothing,
            &self.streams,
            Epoch { batch: self.batch, number: 0 },
        );
        let (everything, free) = match self.settings.calibration {
            Calibration::None => (false, false),
            Calibration::Batch | Calibration::BatchMeanProb => (true, false),
            Calibration::ContentFree => (false, true),
        };
        let all: Vec<usize> = (0..self.items.len()).collect();
        let targets = if everything { all.as_slice() } else { examples };
        let asked = plan.ask(self.items, &nothing, targets, free);
        let scores = self.score(&asked)?;
        let raw = asked.rows(&scores);
        let all = raw.iter().map(|(_, row)| row.as_slice());
        let offset = self.offset(all, &asked.content_free, &scores);
        Ok((raw, offset))
    }
}
