//! The words of the published commands: names of data sets, and options of the vLLM fork.
//!
//! Names of flags (`--testbed`, `--K`, `--initial_T`, ...) are aliases that stand with each option.

use std::convert::Infallible;

use clap::Args;
use serde::Serialize;

use crate::pipeline::names::PresetName;
use crate::pipeline::voice::Voice;
use crate::pipeline::warning::{IgnoredFlag, Warning};

/// The task that the published code calls `name`; other names are as they are.
pub(super) fn task_name(name: &str) -> Result<String, Infallible> {
    Ok(match name {
        "gsm8k" => "gsm8k-verification",
        "truthfulQA" => "truthfulqa",
        "truthfulQA-preference" => "truthfulqa-preference",
        "global_opinions" => "global-opinions",
        other => other,
    }
    .to_owned())
}

/// Flags as the authors' code spells them, where ours are spelled otherwise.
const OF_THE_CODE: [&str; 8] = [
    "--testbed",
    "--K",
    "--initial_T",
    "--final_T",
    "--scheduler",
    "--consistency_fix_K",
    "--num_seed",
    "--batch_size",
];
/// Flags that its vLLM fork adds.
const OF_THE_FORK: [&str; 4] = [
    "--tensor_parallel_size",
    "--gpu_memory_utilization",
    "--max_model_len",
    "--max_num_batched_tokens",
];

/// Returns the first flag of a command line that only a published code spells so, and the preset of that
/// code: a published command should do what it did there, not what `w2s` does by default.
pub(super) fn implied_preset(argv: &[String]) -> Option<(&'static str, PresetName)> {
    let is_in = |flag: &&str| argv.iter().any(|word| word.split('=').next() == Some(*flag));
    let flag = OF_THE_CODE.into_iter().find(is_in)?;
    let fork = OF_THE_FORK.iter().any(is_in);
    Some((flag, if fork { PresetName::VllmFork } else { PresetName::IcmCode }))
}

/// Options of published commands that have no meaning here.
#[derive(Clone, Debug, Args, Serialize)]
pub struct PublishedOptions {
    /// Flags that have no effect here.
    #[arg(long = "tensor_parallel_size", value_name = "N", hide = true)]
    pub tensor_parallel_size: Option<usize>,
    /// Flags that have no effect here.
    #[arg(long = "gpu_memory_utilization", value_name = "X", hide = true)]
    pub gpu_memory_utilization: Option<f64>,
}

impl PublishedOptions {
    /// Warns of those of the options that were given have no effect.
    pub(super) fn warn(&self, voice: &Voice<'_>) {
        let Self { tensor_parallel_size, gpu_memory_utilization } = self;
        // One GPU is what there is.
        if tensor_parallel_size.is_some_and(|n| n != 1) {
            voice.warn(&Warning::NoEffect(IgnoredFlag::TensorParallelSize));
        }
        if gpu_memory_utilization.is_some() {
            voice.warn(&Warning::NoEffect(IgnoredFlag::GpuMemoryUtilization));
        }
    }
}
