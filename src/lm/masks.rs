//! Masks of attention, and tokens of a pass that see nothing of each other.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// New tokens that follow each other and see none of the others.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) tokens: Range<usize>,
    /// `[L, L]` among themselves; `None`: causal.
    pub(super) mask: Option<Tensor>,
}

impl Part {
    /// Returns the same on another device of the same kind.
    pub(super) fn on(&self, device: Device) -> Result<Self> {
        let mask = self.mask.as_ref().map(|mask| mask.f_to_device(device)).transpose()?;
        Ok(Self { tokens: self.tokens.clone(), mask })
    }
}

/// Returns the new tokens cut in runs that see nothing of each other.
pub(super) fn parts(parents: &[Option<usize>]) -> Vec<Range<usize>> {
    // A token whose parent lies before the run joins the runs between.
    let mut begins: Vec<usize> = Vec::new();
    for (i, parent) in parents.iter().enumerate() {
        match parent {
            None => begins.push(i),
            Some(parent) => {
                while begins.last().is_some_and(|begin| begin > parent) {
                    begins.pop();
                }
            }
        }
    }
    let ends = begins.iter().skip(1).copied().chain([parents.len()]);
    begins.iter().zip(ends).map(|(&begin, end)| begin..end).collect()
}

/// Returns the runs of [`parts`] with the masks of those that fork.
pub(super) fn masked_parts(parents: &[Option<usize>], kind: Kind) -> Result<Vec<Part>> {
    parts(parents)
        .into_iter()
        .map(|tokens| {
            let begin = tokens.start;
            let within: Vec<Option<usize>> =
                parents[tokens.clone()].iter().map(|p| p.map(|p| p - begin)).collect();
            let mask = if is_chain(&within) {
                None
            } else {
                let mut mask = Mask::new(within.len(), within.len());
                for i in 0..within.len() {
                    // A token sees what its parent sees, and itself.
                    if let Some(parent) = within[i] {
                        mask.values.copy_within(
                            parent * within.len()..parent * within.len() + parent + 1,
                            i * within.len(),
                        );
                    }
                    mask.row(i)[i] = 0.0;
                }
                Some(mask.tensor(kind)?)
            };
            Ok(Part { tokens, mask })
        })
        .collect()
}

pub(super) fn is_chain(parents: &[Option<usize>]) -> bool {
    parents.iter().enumerate().all(|(i, parent)| *parent == i.checked_sub(1))
}

/// Made row by row: minus infinity but where it is set.
pub(super) struct Mask {
    width: usize,
    values: Vec<f32>,
}

impl Mask {
    pub(super) fn new(len: usize, width: usize) -> Self {
        Self { width, values: vec![f32::NEG_INFINITY; len * width] }
    }

    pub(super) fn row(&mut self, index: usize) -> &mut [f32] {
        &mut self.values[index * self.width..(index + 1) * self.width]
    }

    pub(super) fn tensor(&self, kind: Kind) -> Result<Tensor> {
        let shape = [(self.values.len() / self.width) as i64, self.width as i64];
        Ok(Tensor::f_from_slice(&self.values)?.f_view(shape)?.f_to_kind(kind)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_see_nothing_of_each_other_are_parts() {
        // Two roots; the second forks; a third run is a chain again.
        let parents = [None, Some(0), None, Some(2), Some(2), Some(3), None];
        let parts = masked_parts(&parents, Kind::Float).unwrap();
        let ranges: Vec<_> = parts.iter().map(|part| part.tokens.clone()).collect();
        assert_eq!(ranges, [0..2, 2..6, 6..7]);
        assert!(parts[0].mask.is_none() && parts[2].mask.is_none());
        let mask = parts[1].mask.as_ref().unwrap();
        let seen: Vec<bool> =
            Vec::<f32>::try_from(mask.reshape([-1])).unwrap().iter().map(|&v| v == 0.0).collect();
        let expected = [
            [true, false, false, false],
            [true, true, false, false],
            [true, false, true, false],
            [true, true, false, true],
        ];
        assert_eq!(seen, expected.concat());
    }

    #[test]
    fn roots_that_interleave_are_one_part() {
        let parents = [None, None, Some(0), Some(1)];
        let parts = masked_parts(&parents, Kind::Float).unwrap();
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].tokens, 0..4);
    }
}
