//! What trains: a low-rank adapter, or all weights.

use serde_json::{Value, json};

use super::options::TrainJob;
use crate::error::Result;
use crate::lm::{Adapter, Decoder, OwnTensor};
use crate::run::SeedStream;
use crate::train::Parameter;

/// What trains.
pub enum Trained {
    Adapter(Box<Adapter>),
    All(Vec<OwnTensor>),
}

impl Trained {
    pub(in crate::pipeline) fn new(
        args: &TrainJob,
        decoder: &mut Decoder,
        streams: SeedStream,
    ) -> Result<Self> {
        if args.full {
            return Ok(Self::All(decoder.train_all()?));
        }
        let adapter = match &args.model.adapter {
            Some(folder) => Adapter::open(folder)?,
            None => {
                let config = args.adapter_config(decoder.config().layout);
                Adapter::new(config, decoder, streams)?
            }
        };
        let adapter = adapter.trainable(decoder)?;
        decoder.attach(&adapter)?;
        Ok(Self::Adapter(Box::new(adapter)))
    }

    pub(super) fn dropout(&self, args: &TrainJob) -> f64 {
        match self {
            Self::Adapter(adapter) => args.dropout().unwrap_or(adapter.config().dropout),
            Self::All(_) => 0.0,
        }
    }

    pub(in crate::pipeline) fn parameters(&self) -> Vec<Parameter> {
        match self {
            Self::Adapter(adapter) => {
                let named = adapter.tensors().into_iter();
                named.map(|(name, tensor)| Parameter { name, tensor, decays: true }).collect()
            }
            Self::All(all) => all
                .iter()
                .map(|own| Parameter {
                    name: own.name.clone(),
                    tensor: own.tensor.shallow_clone(),
                    decays: own.decays,
                })
                .collect(),
        }
    }

    /// The adapter's settings, or that all weights train.
    pub(super) fn settings(&self) -> Value {
        match self {
            Self::Adapter(adapter) => {
                let config = adapter.config();
                json!({ "r": config.r, "alpha": config.alpha, "use_rslora": config.use_rslora,
                    "target_modules": config.target_modules.to_json() })
            }
            Self::All(_) => "none, all weights train".into(),
        }
    }
}
