//! What scoring would run, counted instead of run.

use serde::Serialize;

/// Work of a model, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Tokens of forward passes.
    pub num_tokens: u64,
    /// Pairs of such a token and one that it sees.
    pub num_pairs: u64,
    /// Places at which the head runs.
    pub num_rows: u64,
    /// Forward passes.
    pub num_passes: u64,
    /// Tokens written after prompts, at most.
    pub num_written: u64,
    /// Tokens of forward and backward passes.
    pub num_trained: u64,
    /// Places at which the head runs there.
    pub num_targets: u64,
    /// Tokens of the longest prompt.
    pub longest: usize,
}

impl Work {
    /// Returns both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            num_tokens: self.num_tokens + other.num_tokens,
            num_pairs: self.num_pairs + other.num_pairs,
            num_rows: self.num_rows + other.num_rows,
            num_passes: self.num_passes + other.num_passes,
            num_written: self.num_written + other.num_written,
            num_trained: self.num_trained + other.num_trained,
            num_targets: self.num_targets + other.num_targets,
            longest: self.longest.max(other.longest),
        }
    }

    /// Adds a pass of tokens with these parents behind a path of `past` tokens, asked at `num_rows`.
    pub(super) fn add_pass(&mut self, past: usize, parents: &[Option<usize>], num_rows: usize) {
        let mut seen: Vec<u64> = Vec::with_capacity(parents.len());
        for parent in parents {
            seen.push(1 + parent.map_or(past as u64, |parent| seen[parent]));
        }
        self.num_tokens += parents.len() as u64;
        self.num_pairs += seen.iter().sum::<u64>();
        self.num_rows += num_rows as u64;
        self.num_passes += 1;
        self.longest = self.longest.max(seen.iter().copied().max().unwrap_or(0) as usize);
    }
}

/// Returns a log-probability in place of a model's: always the same for a question and a label, as good
/// as random between them.
pub(super) fn pretended(id: &str, label: usize) -> f64 {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new_with_prefix((label as u64).to_le_bytes());
    hash.update(id);
    let digest = hash.finalize();
    -0.5 - 2.0 * f64::from(u16::from_le_bytes([digest[0], digest[1]])) / 65_536.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_counts_what_each_token_sees() {
        let mut work = Work::default();
        // Behind 3 tokens: two in a row, then a branch at the first.
        work.add_pass(3, &[None, Some(0), Some(0)], 2);
        assert_eq!((work.num_tokens, work.num_pairs), (3, 4 + 5 + 5));
        assert_eq!((work.num_rows, work.num_passes, work.longest), (2, 1, 5));
        assert_eq!(work.plus(work).num_pairs, 28);
    }
}
