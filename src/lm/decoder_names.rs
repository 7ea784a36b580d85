//! The names of the weights outside the blocks.

use super::config::Layout;

/// The names, as transformers' classes have them; a file may lack the prefix of the wrapper.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) embedding: String,
    pub(super) positions: String,
    pub(super) final_norm: String,
    pub(super) head: String,
    layers: String,
}

impl Names {
    pub(super) fn of(layout: Layout) -> Self {
        let prefix = Self::prefix(layout);
        let (embedding, final_norm, layers) = match layout {
            Layout::Llama | Layout::Phi3 => ("embed_tokens", "norm", "layers"),
            Layout::Gpt2 => ("wte", "ln_f", "h"),
            Layout::GptNeox => ("embed_in", "final_layer_norm", "layers"),
        };
        Self {
            embedding: format!("{prefix}{embedding}.weight"),
            positions: format!("{prefix}wpe.weight"),
            final_norm: format!("{prefix}{final_norm}"),
            head: Self::head(layout).to_owned(),
            layers: format!("{prefix}{layers}"),
        }
    }

    /// Returns what the wrapper for language modelling puts before the base model's names.
    pub(super) fn prefix(layout: Layout) -> &'static str {
        match layout {
            Layout::Llama | Layout::Phi3 => "model.",
            Layout::Gpt2 => "transformer.",
            Layout::GptNeox => "gpt_neox.",
        }
    }

    /// Returns the name of the head.
    pub(super) fn head(layout: Layout) -> &'static str {
        match layout {
            Layout::GptNeox => "embed_out.weight",
            _ => "lm_head.weight",
        }
    }

    /// Returns what the names of a block begin with.
    pub(super) fn layer(&self, index: usize) -> String {
        format!("{}.{index}", self.layers)
    }
}
