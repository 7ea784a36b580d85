//! Weights that are drawn instead of read, on the device itself: for measuring how fast a model of
//! some shape would run, without its gigabytes.

use std::path::Path;

use rand::Rng;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use super::config::{LmConfig, NormKind};
use crate::error::{Error, ErrorKind, Result};
use crate::run::SeedStream;

/// The file that asks for drawn weights in a model folder.
pub const RANDOM_WEIGHTS: &str = "random_weights.json";

/// Standard deviation of the matrices, `initializer_range` of most families.
const STD: f64 = 0.02;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    seed: u64,
}

/// Returns the seed in a folder's [`RANDOM_WEIGHTS`], or `None` if the folder has no such file.
pub(super) fn seed_of(folder: &Path) -> Result<Option<u64>> {
    let path = folder.join(RANDOM_WEIGHTS);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("read", &path, &e)),
    };
    let settings: Settings = serde_json::from_str(&text).map_err(|e| {
        Error::new(ErrorKind::Checkpoint, format!("broken description of random weights: {e}"))
            .at(&path)
            .hint("expected `{\"seed\": 1}`")
    })?;
    Ok(Some(settings.seed))
}

/// A source of drawn tensors. A tensor depends on seed, name, shape, number type and kind of device,
/// not on what was drawn before it.
#[derive(Debug)]
pub(super) struct RandomWeights {
    streams: SeedStream,
    norm_weight: f64,
}

impl RandomWeights {
    pub(super) fn new(config: &LmConfig, seed: u64) -> Self {
        let norm_weight = match config.norm {
            NormKind::Rms { unit_offset: true } => 0.0,
            _ => 1.0,
        };
        Self { streams: SeedStream::new(seed), norm_weight }
    }

    /// Returns the tensor `name`: a matrix from a normal distribution, a norm's weight that changes
    /// nothing, or a bias of zeros.
    pub(super) fn tensor(
        &self,
        name: &str,
        shape: &[usize],
        device: Device,
        kind: Kind,
    ) -> Result<Tensor> {
        let size: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
        let mut tensor = Tensor::f_empty(&size, (kind, device))?;
        // In every family vectors are norm weights or biases.
        if shape.len() == 1 {
            let value = if name.ends_with(".bias") { 0.0 } else { self.norm_weight };
            let _ = tensor.f_fill_(value)?;
        } else {
            let seed: u64 = self.streams.rng(&format!("lm/random/{name}"), &[]).random();
            tch::manual_seed((seed >> 1) as i64);
            let _ = tensor.f_normal_(0.0, STD)?;
        }
        Ok(tensor.set_requires_grad(false))
    }
}
