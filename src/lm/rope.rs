//! Rotary position embedding: which angles, and their tables.
//!
//! Frequencies are computed in f64 and cast once, as far as f32 tables allow; the rotation is
//! Hugging Face's half-split form (`rotate_half`).

use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// How the frequencies are stretched for longer contexts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All frequencies divided by a factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided, high ones kept, smooth in between.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context of the original training, in tokens.
        original_max_position_embeddings: f64,
    },
}

/// One rotation: base, share of the head that is rotated, scaling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeConfig {
    /// Base of the geometric series of wavelengths.
    pub theta: f64,
    /// How many leading components of a head are rotated; even.
    pub rotary_dim: usize,
    /// How the frequencies are stretched.
    pub scaling: RopeScaling,
}

impl RopeConfig {
    /// Returns the `rotary_dim / 2` angular frequencies, in radians per position.
    ///
    /// # Source
    /// Su et al. 2021, section 3.4.2; scaling as in transformers' `modeling_rope_utils`.
    pub fn frequencies(&self) -> Vec<f64> {
        let plain = (0..self.rotary_dim / 2)
            .map(|i| self.theta.powf(-((2 * i) as f64) / self.rotary_dim as f64));
        match self.scaling {
            RopeScaling::None => plain.collect(),
            RopeScaling::Linear { factor } => plain.map(|f| f / factor).collect(),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: original,
            } => plain
                .map(|f| {
                    let wavelength = 2.0 * std::f64::consts::PI / f;
                    if wavelength > original / low_freq_factor {
                        f / factor
                    } else if wavelength < original / high_freq_factor {
                        f
                    } else {
                        let smooth = (original / wavelength - low_freq_factor)
                            / (high_freq_factor - low_freq_factor);
                        (1.0 - smooth) * f / factor + smooth * f
                    }
                })
                .collect(),
        }
    }
}

/// The frequencies of one rotation on a device, `[rotary_dim / 2]`, f32.
#[derive(Debug)]
pub(super) struct Rope {
    freqs_r: Tensor,
    rotary_dim: i64,
}

impl Rope {
    /// Returns the rotation's frequencies on `device`.
    pub(super) fn new(config: &RopeConfig, device: Device) -> Result<Self> {
        let freqs: Vec<f32> = config.frequencies().iter().map(|&f| f as f32).collect();
        Ok(Self {
            freqs_r: Tensor::f_from_slice(&freqs)?.f_to_device(device)?,
            rotary_dim: config.rotary_dim as i64,
        })
    }

    /// Returns cosines and sines, each `[L, 1, rotary_dim / 2]` in `kind`, at positions `[L]` (f32).
    pub(super) fn at(&self, positions_l: &Tensor, kind: Kind) -> Turn {
        let angles_l1r = positions_l.outer(&self.freqs_r).unsqueeze(1);
        let sin_l1r = angles_l1r.sin().to_kind(kind);
        Turn {
            cos_l1r: angles_l1r.cos().to_kind(kind),
            minus_sin_l1r: sin_l1r.neg(),
            sin_l1r,
            half: self.rotary_dim / 2,
        }
    }
}

/// The angles of one rotation at the positions of one pass.
#[derive(Debug)]
pub(super) struct Turn {
    cos_l1r: Tensor,
    sin_l1r: Tensor,
    minus_sin_l1r: Tensor,
    half: i64,
}

impl Turn {
    /// Returns `x_lnh` (`[L, N, H]`) with its leading components rotated.
    pub(super) fn rotate(&self, x_lnh: &Tensor) -> Tensor {
        let (half, head_dim) = (self.half, x_lnh.size()[2]);
        let (a, b) = (x_lnh.narrow(2, 0, half), x_lnh.narrow(2, half, half));
        let (cos, sin) = (&self.cos_l1r, &self.sin_l1r);
        if x_lnh.requires_grad() {
            let turned = [&a * cos - &b * sin, &b * cos + &a * sin];
            let rest = x_lnh.narrow(2, 2 * half, head_dim - 2 * half);
            return Tensor::cat(&[&turned[0], &turned[1], &rest], 2);
        }
        // Written in place, half by half: a third of the memory traffic of the textbook form.
        let out_lnh = Tensor::empty_like(x_lnh);
        let write = |first: i64, x: &Tensor, other: &Tensor, sin: &Tensor| {
            let mut part = out_lnh.narrow(2, first, half);
            let _ = x.multiply_out(&part, cos);
            let _ = part.addcmul_(other, sin);
        };
        write(0, &a, &b, &self.minus_sin_l1r);
        write(half, &b, &a, sin);
        if head_dim > 2 * half {
            let rest = (2 * half, head_dim - 2 * half);
            out_lnh.narrow(2, rest.0, rest.1).copy_(&x_lnh.narrow(2, rest.0, rest.1));
        }
        out_lnh
    }
}
