//! A model behind an OpenAI-compatible server (vLLM, llama.cpp, OpenRouter): asking it, and keeping
//! what it answered.
//!
//! Stands where [`crate::lm`] stands for local models: it knows requests, replies and what they cost,
//! and nothing of labels. [`crate::score::HttpScorer`] asks questions through it. A [`Client`] sends
//! and retries, an [`AnswerStore`] keeps every reply that was paid for, a [`Meter`] counts, and a
//! [`Probe`] finds out in which way a server gives log-probabilities that can be used.

mod address;
mod answer;
mod canary;
mod check;
mod client;
mod cost;
mod inside;
mod intact;
mod key;
mod kind;
mod lora;
mod metrics;
mod named;
mod named_trial;
mod now;
mod pool;
mod probe;
mod refusal;
mod reply;
mod reply_kept;
mod reply_sglang;
mod request;
mod service;
mod store;
mod tokenize;

pub use address::ServerAddress;
pub use answer::Answer;
pub use check::{Agreement, Pace, agreement, pace};
pub use client::{Client, ClientOptions, DEADLINES, PACES};
pub(crate) use cost::sum_of_known;
pub use cost::{Meter, Price, Prices, Spent};
pub use key::ApiKey;
pub use kind::Software;
pub use metrics::PrefixCounters;
pub(crate) use named::MOST_NAMED;
pub use named::NamedBy;
pub(crate) use pool::{Job, run_in_order};
pub use probe::{Abilities, Probe, Verdict};
pub use reply::{Reply, ReplyToken, TopToken, WholeTop};
pub(crate) use request::{Prompt, Request, chat_parameters, prefill_parameters};
pub use service::{Files, Service, ServiceOptions};
pub use store::{AnswerStore, StoreSize};
