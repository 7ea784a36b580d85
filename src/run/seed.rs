//! Named random streams: one seed, and for every purpose a generator of its own.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

/// The source of all randomness of a run.
///
/// A stream depends on the seed, its name and its indices, and on nothing else: adding a new use of
/// randomness changes no other, and iteration 1000 can be drawn without drawing the 999 before it.
#[derive(Clone, Copy, Debug)]
pub struct SeedStream {
    seed: u64,
}

impl SeedStream {
    /// Returns the streams of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Returns the streams of restart `restart`: those of the seed itself for 0, others for each
    /// other.
    #[must_use]
    pub fn restart(&self, restart: usize) -> Self {
        match restart {
            0 => *self,
            _ => Self::new(self.rng("restart", &[restart as u64]).next_u64()),
        }
    }

    /// Returns the generator of the stream `name` at `indices`.
    pub fn rng(&self, name: &str, indices: &[u64]) -> ChaCha8Rng {
        let mut hash = Sha256::new();
        hash.update(self.seed.to_le_bytes());
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        for index in indices {
            hash.update(index.to_le_bytes());
        }
        ChaCha8Rng::from_seed(hash.finalize().into())
    }

    /// Returns the generator of the stream `name` for the thing called `id`, whatever else there is.
    pub fn rng_of(&self, name: &str, id: &str) -> ChaCha8Rng {
        let digest = Sha256::digest(id.as_bytes());
        let index = digest.iter().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte));
        self.rng(name, &[index])
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn streams_are_repeatable_and_apart() {
        let draw = |seed, name: &str, indices: &[u64]| -> u64 {
            SeedStream::new(seed).rng(name, indices).random()
        };
        assert_eq!(draw(1, "a", &[2, 3]), draw(1, "a", &[2, 3]));
        let all = [
            draw(1, "a", &[2, 3]),
            draw(2, "a", &[2, 3]),
            draw(1, "b", &[2, 3]),
            draw(1, "a", &[3, 2]),
            draw(1, "a", &[2]),
            draw(1, "a2", &[3]),
        ];
        for (i, x) in all.iter().enumerate() {
            assert!(!all[i + 1..].contains(x));
        }
        let first = |restart| SeedStream::new(1).restart(restart).rng("a", &[2, 3]).next_u64();
        assert_eq!(first(0), all[0]);
        assert!(!all.contains(&first(1)) && first(1) != first(2));
    }
}
