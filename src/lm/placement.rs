//! A model over several devices: which of its blocks lie on which.
//!
//! Consecutive blocks share a device, so that hidden states move only where one device's blocks end
//! and the next one's begin. The embedding lies with the first block, the final norm and the head
//! with the last; a head that is the embedding stays with it, and the few hidden states that are
//! asked about come back to it.

use std::fmt;

use tch::{Device, Kind};

use super::config::{LmConfig, NormKind, NormPlacement, QkNorm};
use super::device::{Devices, name};
use super::native::free_memory;
use crate::error::{Error, ErrorKind, Result};

/// The devices of a model and how many consecutive blocks lie on each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    stages: Vec<(Device, usize)>,
}

/// What the parts of a model weigh, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartBytes {
    /// What lies with the first block.
    pub before: u64,
    /// Each block.
    pub blocks: Vec<u64>,
    /// What lies with the last block.
    pub after: u64,
}

impl PartBytes {
    /// Returns the parts of a model whose weights are held in `kind`.
    pub fn of(config: &LmConfig, kind: Kind) -> Self {
        let (d, wide) = (config.hidden_size, config.intermediate_size);
        let q = config.num_attention_heads * config.head_dim;
        let kv = config.num_key_value_heads * config.head_dim;
        let with = |yes: bool, num: usize| if yes { num } else { 0 };
        let norm = |size: usize| size * if config.norm == NormKind::Layer { 2 } else { 1 };
        let attention = (q + 2 * kv) * d
            + d * q
            + with(config.qkv_bias, q + 2 * kv)
            + with(config.o_bias, d)
            + match config.qk_norm {
                QkNorm::None => 0,
                QkNorm::PerHead => 2 * norm(config.head_dim),
                QkNorm::Full => norm(q) + norm(kv),
            };
        let num_inner = if config.mlp_gated { 2 } else { 1 };
        let mlp = (num_inner + 1) * d * wide + with(config.mlp_bias, num_inner * wide + d);
        let num_norms = if config.norm_placement == NormPlacement::Sandwich { 4 } else { 2 };
        let block = attention + mlp + num_norms * norm(d);
        let positions = with(config.learned_positions, config.max_position_embeddings * d);
        let table = config.vocab_size * d;
        let tied = config.tie_word_embeddings;
        let bytes = |num: usize| (num * kind.elt_size_in_bytes()) as u64;
        Self {
            before: bytes(table + positions + with(tied, norm(d))),
            blocks: vec![bytes(block); config.layers.len()],
            after: bytes(with(!tied, table + norm(d))),
        }
    }

    /// Returns the sum of all.
    pub fn total(&self) -> u64 {
        self.before + self.blocks.iter().sum::<u64>() + self.after
    }

    /// Returns how many blocks each of several devices takes, in their order, such that the fullest
    /// is as little full as it can be, and the others are alike; `room` is the free memory of each.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when the weights do not fit; says where and how much is missing.
    pub fn split(&self, devices: &[Device], room: &[u64]) -> Result<Vec<usize>> {
        let (num, last) = (self.blocks.len(), devices.len().saturating_sub(1));
        let load = |device: usize, from: usize, to: usize| {
            self.blocks[from..to].iter().sum::<u64>()
                + if device == 0 { self.before } else { 0 }
                + if device == last { self.after } else { 0 }
        };
        let share = |device: usize, from: usize, to: usize| {
            load(device, from, to) as f64 / (room[device] as f64).max(1.0)
        };
        // The lowest cost of the first blocks on the first devices, and where the last of them begins.
        let best = |join: &dyn Fn(f64, f64) -> f64| -> (f64, Vec<usize>) {
            let mut costs = vec![f64::INFINITY; num + 1];
            costs[0] = 0.0;
            let mut begins = vec![vec![0; num + 1]; devices.len()];
            for (device, begins) in begins.iter_mut().enumerate() {
                let before = std::mem::replace(&mut costs, vec![f64::INFINITY; num + 1]);
                for end in 0..=num {
                    for (begin, &cost) in before.iter().enumerate().take(end + 1) {
                        let cost = join(cost, share(device, begin, end));
                        if cost < costs[end] {
                            (costs[end], begins[end]) = (cost, begin);
                        }
                    }
                }
            }
            let (mut counts, mut end) = (vec![0; devices.len()], num);
            for (count, begins) in counts.iter_mut().zip(&begins).rev() {
                *count = end - begins[end];
                end = begins[end];
            }
            (costs[num], counts)
        };
        let (fullest, counts) = best(&|a, b| a.max(b));
        if fullest > 1.0 {
            return Err(self.no_room(devices, room, &counts, load));
        }
        let within = |a: f64, b: f64| if b > fullest { f64::INFINITY } else { a + b * b };
        Ok(best(&within).1)
    }

    /// The error for the split that comes nearest.
    fn no_room(
        &self,
        devices: &[Device],
        room: &[u64],
        counts: &[usize],
        load: impl Fn(usize, usize, usize) -> u64,
    ) -> Error {
        let most = room.iter().copied().max().unwrap_or(0);
        let hint = format!(
            "all weights take {} and {} free in all; add a device, free memory, or use a smaller `--dtype`",
            size(self.total()),
            match room {
                [one] => format!("{} is", size(*one)),
                _ => format!("{} are", size(room.iter().sum())),
            }
        );
        let largest = (1..).zip(&self.blocks).max_by_key(|(_, bytes)| **bytes);
        if let Some((number, &bytes)) = largest.filter(|(_, bytes)| **bytes > most) {
            let message = format!(
                "block {number} of the model takes {} by itself, but no device has more than {} free: {} are missing",
                size(bytes),
                size(most),
                size(bytes - most)
            );
            return Error::new(ErrorKind::Device, message).hint(hint);
        }
        let mut begin = 0;
        let over = counts.iter().enumerate().map(|(device, count)| {
            begin += count;
            let bytes = load(device, begin - count, begin);
            (bytes.saturating_sub(room[device]), device, bytes)
        });
        let (missing, device, bytes) = over.max().unwrap_or_default();
        Error::new(
            ErrorKind::Device,
            format!(
                "the model does not fit: `{}` would hold {} of its weights and has {} free: {} are missing",
                name(devices[device]),
                size(bytes),
                size(room[device]),
                size(missing)
            ),
        )
        .hint(hint)
    }
}

impl Placement {
    /// Returns the placement with this many blocks on each device, in their order. The model must
    /// have as many blocks in all.
    pub fn new(stages: Vec<(Device, usize)>) -> Self {
        Self { stages }
    }

    /// Returns where the blocks of a model go: all on the only device, or spread by the bytes of
    /// weights against the free memory of each.
    ///
    /// # Errors
    /// As [`PartBytes::split`].
    pub fn plan(config: &LmConfig, kind: Kind, devices: &Devices) -> Result<Self> {
        let devices = devices.all();
        if let [only] = devices {
            return Ok(Self::new(vec![(*only, config.layers.len())]));
        }
        let parts = PartBytes::of(config, kind);
        let room = devices
            .iter()
            .map(|device| {
                let num_alike = devices.iter().filter(|other| *other == device).count() as u64;
                // On the CPU weights are mapped, and memory is the kernel's to find.
                Ok(free_memory(*device)?.map_or(parts.total(), |free| free / num_alike))
            })
            .collect::<Result<Vec<u64>>>()?;
        let counts = parts.split(devices, &room)?;
        Ok(Self::new(devices.iter().copied().zip(counts).collect()))
    }

    /// Returns the device of the embedding.
    pub fn first(&self) -> Device {
        self.stages.first().map_or(Device::Cpu, |(device, _)| *device)
    }

    /// Returns the device of the last block.
    pub fn last(&self) -> Device {
        self.stages.last().map_or(Device::Cpu, |(device, _)| *device)
    }

    /// Returns the devices with the number of blocks on each, in the order of the blocks.
    pub fn stages(&self) -> &[(Device, usize)] {
        &self.stages
    }

    /// Returns whether the model lies on more than one device.
    pub fn is_spread(&self) -> bool {
        self.stages.len() > 1
    }

    /// Returns the stage of each block: its device's place among the devices.
    pub(super) fn of_blocks(&self) -> Vec<usize> {
        let stages = self.stages.iter().enumerate();
        stages.flat_map(|(stage, (_, num))| std::iter::repeat_n(stage, *num)).collect()
    }

    /// Refuses a placement of another number of blocks.
    pub(super) fn check(&self, num_blocks: usize) -> Result<()> {
        let num: usize = self.stages.iter().map(|(_, num)| num).sum();
        if num == num_blocks && !self.stages.is_empty() {
            return Ok(());
        }
        let message = format!("a placement of {num} blocks for a model of {num_blocks}");
        Err(Error::new(ErrorKind::Internal, message))
    }
}

/// `1-16 on cuda:0, 17-32 on cuda:1`, by the numbers of the blocks from 1.
impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut end = 0;
        for (i, (device, num)) in self.stages.iter().enumerate() {
            let begin = end + 1;
            end += num;
            f.write_str(if i == 0 { "" } else { ", " })?;
            match num {
                0 => write!(f, "none")?,
                1 => write!(f, "{end}")?,
                _ => write!(f, "{begin}-{end}")?,
            }
            write!(f, " on {}", name(*device))?;
        }
        Ok(())
    }
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib >= 1024.0 { format!("{:.2} GiB", mib / 1024.0) } else { format!("{mib:.1} MiB") }
}
