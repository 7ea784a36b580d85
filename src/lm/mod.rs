//! One config-driven causal decoder on libtorch, with its tokenizer and weights.
//!
//! It is a model and nothing more: it knows tokens, hidden states and log-probabilities, not labels
//! or demonstrations. [`crate::score`] is the only caller; everything else asks questions there.

mod adapter;
mod adapter_config;
mod adapter_rules;
mod attention;
mod backward;
mod block;
mod boundary;
mod cache;
mod calls;
mod chat;
mod checkpoint;
mod config;
mod config_defaults;
mod config_families;
mod config_fields;
mod config_read;
mod cut;
mod decoder;
mod decoder_names;
mod decoder_weights;
mod device;
mod device_work;
mod environment;
mod generate;
mod inputs;
mod jinja;
mod kernel;
#[cfg(test)]
mod laws;
mod layers;
mod linear;
mod masks;
mod native;
mod operations;
mod own_tensor;
mod pieces;
mod placement;
mod product;
mod python_regex;
mod random;
mod rope;
mod rope_config;
mod token_logprobs;
mod tokenizer;
mod varlen;
mod write;

pub use adapter::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, Adapter, LowRank, ModuleShape};
pub use adapter_config::{AdapterConfig, TargetModules};
pub use adapter_rules::AdapterRules;
pub(crate) use backward::LOGIT_ELEMENTS;
pub use backward::{AdapterDropout, Derivatives, Target, TrainTokens};
pub use boundary::{first_difference, question_boundary};
pub use cache::{BatchCache, KvCache};
pub(crate) use calls::attention_bytes;
pub use chat::{ChatTemplate, Message};
pub use checkpoint::Checkpoint;
pub use config::{
    Activation, FAMILIES, LayerConfig, Layout, LmConfig, NormKind, NormPlacement, QkNorm,
};
pub use decoder::{Decoder, NewTokens};
pub use device::{DeviceChoice, Devices, DtypeChoice, cpu_has_bf16, resolve as resolve_device};
pub use device_work::{DeviceRates, DeviceWork, PassPlan, SeenBy};
pub use environment::settle_environment;
pub use generate::{Finish, GenerateOptions, Generated, Sampling, end_tokens, generate};
pub use jinja::Moment;
pub use kernel::attention_kernel;
pub use native::host_copies;
pub(crate) use native::{Deterministic, gather_memory, repeats_to_the_byte, working_memory};
pub use operations::Operations;
pub use own_tensor::OwnTensor;
pub use placement::{PartBytes, Placement};
pub use random::RANDOM_WEIGHTS;
pub use rope::{RopeConfig, RopeScaling};
pub use token_logprobs::Asked;
pub use tokenizer::{Tokenizer, Tokens};
pub(crate) use write::{read_tensors, write_tensors};
