//! How much memory a pass takes besides the weights, and how large passes may be within a budget.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use tch::Kind;

use crate::error::{Error, ErrorKind, Result};
use crate::lm::{LmConfig, attention_bytes};

/// An amount of memory, in bytes; reads and writes `512M` or `3.5G` (powers of 1024).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemorySize(pub u64);

impl FromStr for MemorySize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || "expected a size such as `800M` or `3.5G`".to_owned();
        let (number, unit) = match text.char_indices().next_back() {
            Some((at, unit)) if unit.is_ascii_alphabetic() => (&text[..at], unit),
            _ => return Err(bad()),
        };
        let scale = match unit.to_ascii_uppercase() {
            'K' => 1_u64 << 10,
            'M' => 1 << 20,
            'G' => 1 << 30,
            'T' => 1 << 40,
            _ => return Err(bad()),
        };
        let number: f64 = number.parse().map_err(|_| bad())?;
        if !(number.is_finite() && number > 0.0) {
            return Err(bad());
        }
        Ok(Self((number * scale as f64) as u64))
    }
}

impl fmt::Display for MemorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.0 as f64 / f64::from(1 << 20);
        if mib >= 1024.0 {
            write!(f, "{:.1}G", mib / 1024.0)
        } else {
            write!(f, "{:.0}M", mib.ceil())
        }
    }
}

impl Serialize for MemorySize {
    /// To the byte, unlike [`Display`](fmt::Display).
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let units = [(1_u64 << 40, 'T'), (1 << 30, 'G'), (1 << 20, 'M'), (1 << 10, 'K')];
        let (scale, unit) =
            units.into_iter().find(|(scale, _)| self.0 >= *scale).unwrap_or((1 << 10, 'K'));
        // A quotient by a power of two loses nothing.
        serializer.collect_str(&format_args!("{}{unit}", self.0 as f64 / scale as f64))
    }
}

/// What a model's passes take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Footprint {
    /// Keys and values of one token, all layers.
    held_bytes: u64,
    /// Hidden states of one token in the widest place of a block.
    token_bytes: u64,
    /// Bytes per pair of a query and a key in a mask.
    pair_bytes: u64,
    /// How far back on the path masks reach, in tokens; beyond, nothing is masked.
    mask_reach: u64,
    /// Logits of one row and their softmax, in f32.
    row_bytes: u64,
    /// What attention takes whatever the pass.
    fixed_bytes: u64,
}

/// Passes that were made smaller because memory ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halved {
    /// Tokens of the pass that there was no memory for.
    pub from: usize,
    /// Most tokens of a pass since.
    pub to: usize,
}

/// The smallest pass that is worth making.
pub(super) const LEAST_PACK: usize = 16;

impl Footprint {
    /// Returns what passes of a model take on a CPU or, otherwise, on a GPU.
    pub(super) fn of(config: &LmConfig, kind: Kind, cpu: bool) -> Self {
        let element = kind.elt_size_in_bytes() as u64;
        let kv = (config.num_key_value_heads * config.head_dim) as u64;
        let heads = config.num_attention_heads * config.head_dim;
        let wide = (3 * config.intermediate_size).max(5 * heads + 4 * kv as usize);
        // Masks reach over windows.
        let window = config.layers.iter().filter_map(|layer| layer.sliding_window).max();
        let mask_reach = window.unwrap_or(0) as u64;
        let (token_bytes, fixed_bytes) = match cpu {
            true => (0, 0),
            false => attention_bytes(config, kind),
        };
        Self {
            held_bytes: 2 * kv * config.layers.len() as u64 * element,
            token_bytes: (4 * config.hidden_size + wide) as u64 * element + token_bytes,
            // Masks are made in f32 and then cast; attention makes a copy of its own. A GPU has none.
            pair_bytes: match (cpu, window) {
                (false, _) => 0,
                (true, None) => 4 + 2 * element,
                (true, Some(_)) => 2 * (4 + 2 * element),
            },
            mask_reach,
            row_bytes: 8 * config.vocab_size as u64,
            fixed_bytes,
        }
    }

    /// Returns the working memory for passes of `pack` tokens on paths of up to `path` tokens.
    pub(super) fn bytes(&self, path: usize, pack: usize, rows: usize) -> u64 {
        let (path, pack, rows) = (path as u64, pack as u64, rows as u64);
        // The cache grows by half, and holds the old buffers of a layer while it copies.
        let held = (path + pack) * self.held_bytes * 3 / 2;
        held + pack * self.token_bytes
            + pack * (path.min(self.mask_reach) + pack) * self.pair_bytes
            + rows * self.row_bytes
            + self.fixed_bytes
    }

    /// Returns the largest pass up to `wanted` tokens, and the most rows of logits at once up to
    /// `rows`, that stay within `budget` on paths of up to `path` tokens.
    ///
    /// # Errors
    /// [`ErrorKind::Context`] when not even the smallest does; says the least that would.
    pub(super) fn fit(
        &self,
        budget: MemorySize,
        path: usize,
        wanted: usize,
        rows: usize,
    ) -> Result<(usize, usize)> {
        let (mut pack, mut rows) = (wanted, rows);
        loop {
            if self.bytes(path, pack, rows) <= budget.0 {
                return Ok((pack, rows));
            }
            if pack <= LEAST_PACK && rows == 1 {
                let least = MemorySize(self.bytes(path, pack, 1));
                return Err(Error::new(
                    ErrorKind::Context,
                    format!("a prompt of {path} tokens does not fit in {budget} of working memory"),
                )
                .hint(format!("set `--memory {least}` or more, or use fewer demonstrations")));
            }
            // Whichever takes more gives way first.
            let logits_weigh_more = rows as u64 * self.row_bytes
                > self.bytes(path, pack, 0).saturating_sub(self.bytes(path, LEAST_PACK, 0));
            if rows > 1 && (logits_weigh_more || pack <= LEAST_PACK) {
                rows = rows.div_ceil(2);
            } else {
                pack = (pack / 2).max(LEAST_PACK.min(wanted));
            }
        }
    }
}

/// Returns the machine's memory, from `/proc/meminfo`. The total and not what is free at the moment:
/// the size of passes follows from it, and with it the last bits of every number.
pub(crate) fn total() -> Option<MemorySize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(MemorySize(kib << 10))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::{DeviceWork, PassPlan, SeenBy};

    #[test]
    fn sizes_are_read_and_written() {
        let read = |text: &str| text.parse::<MemorySize>().map(|size| size.0);
        assert_eq!(read("1K"), Ok(1024));
        assert_eq!(read("3.5g"), Ok(3_758_096_384));
        for bad in ["", "12", "G", "-1G", "nanM", "1 Gi", "1B"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(MemorySize(3_758_096_384).to_string(), "3.5G");
        assert_eq!(MemorySize(1).to_string(), "1M");
        // As data they are what they were, to the byte.
        for text in ["\"1K\"", "\"800M\"", "\"3.5G\"", "\"2T\""] {
            let size: MemorySize = text.trim_matches('"').parse().unwrap();
            assert_eq!(serde_json::to_string(&size).unwrap(), text);
        }
        let odd: MemorySize = "3.3G".parse().unwrap();
        let text = serde_json::to_string(&odd).unwrap();
        assert_eq!(text.trim_matches('"').parse(), Ok(odd));
    }

    /// What passes are sized by is no less than what is counted from their plans.
    #[test]
    fn passes_on_a_gpu_take_no_more_than_they_are_sized_by() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/llama");
        let mut config = LmConfig::read(&folder.join("config.json")).unwrap();
        // Llama-3-8B's shape.
        (config.hidden_size, config.intermediate_size, config.vocab_size) = (4096, 14_336, 128_256);
        (config.num_attention_heads, config.num_key_value_heads, config.head_dim) = (32, 8, 128);
        config.layers = vec![config.layers[0]; 32];
        let footprint = Footprint::of(&config, Kind::BFloat16, false);
        let past = 6656;
        for (head, ends, len) in [(4096, 0, 0), (1500, 64, 40), (96, 500, 8), (3500, 59, 10)] {
            let mut parents: Vec<Option<usize>> =
                (0..head).map(|i: usize| i.checked_sub(1)).collect();
            for _ in 0..ends {
                let begin = parents.len();
                parents
                    .extend((0..len).map(|i| Some(if i == 0 { head - 1 } else { begin + i - 1 })));
            }
            let num = parents.len();
            let pass = PassPlan { past, parents, num_rows: 128 };
            let work = DeviceWork::of_tree(&config, Kind::BFloat16, &[pass], SeenBy::Calls);
            let held = (past + num) as u64 * footprint.held_bytes * 3 / 2;
            let sized = footprint.bytes(past, num, 128) - held;
            assert!(work.most_bytes <= sized, "{num} tokens: {} of {sized}", work.most_bytes);
            // Nor so much more that passes would be small for nothing.
            assert!(sized < 6 * work.most_bytes, "{num} tokens: {} of {sized}", work.most_bytes);
        }
        // A whole pass in what an H200 has beside the weights.
        let free = MemorySize(110 << 30);
        assert_eq!(footprint.fit(free, past, 4096, 523).unwrap(), (4096, 523));
    }

    #[test]
    fn the_least_that_is_named_would_do() {
        let footprint = Footprint {
            held_bytes: 1000,
            token_bytes: 5000,
            pair_bytes: 12,
            mask_reach: 700,
            row_bytes: 400_000,
            fixed_bytes: 0,
        };
        let fit = |bytes, path| footprint.fit(MemorySize(bytes), path, 512, 256);
        assert_eq!(fit(u64::MAX, 4000).unwrap(), (512, 256));
        let (pack, rows) = fit(12 << 20, 2000).unwrap();
        assert!(pack < 512 && rows < 256 && pack >= LEAST_PACK);
        assert!(footprint.bytes(2000, pack, rows) <= 12 << 20);
        let error = fit(1 << 20, 2000).unwrap_err().to_string();
        let named = error.split("--memory ").nth(1).unwrap().split('`').next().unwrap();
        assert!(fit(named.parse::<MemorySize>().unwrap().0, 2000).is_ok(), "{error}");
    }
}
