//! The words of the published commands: names of data sets, and options of the vLLM fork.
//!
//! Names of flags (`--testbed`, `--K`, `--initial_T`, ...) are aliases that stand with each option.

use std::convert::Infallible;

use clap::Args;

use super::progress::say;

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

/// Options of published commands that have no meaning here.
#[derive(Debug, Args)]
pub(super) struct PublishedArgs {
    #[arg(long = "tensor_parallel_size", value_name = "N", hide = true)]
    tensor_parallel_size: Option<usize>,
    #[arg(long = "gpu_memory_utilization", value_name = "X", hide = true)]
    gpu_memory_utilization: Option<f64>,
}

impl PublishedArgs {
    /// Says which of the options that were given have no effect.
    pub(super) fn warn(&self) {
        let Self { tensor_parallel_size, gpu_memory_utilization } = self;
        // One GPU is what there is.
        if tensor_parallel_size.is_some_and(|n| n != 1) {
            say(format_args!(
                "warning: `--tensor_parallel_size` has no effect: one device is used\nhint: choose it with `--device`"
            ));
        }
        if gpu_memory_utilization.is_some() {
            say(format_args!(
                "warning: `--gpu_memory_utilization` has no effect\nhint: limit working memory with `--memory`"
            ));
        }
    }
}
