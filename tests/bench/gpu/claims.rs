//! Claims to be scored behind all others, and models of a shape.

use std::path::{Path, PathBuf};

use rand::Rng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use w2s::error::{Error, ErrorKind, Result};
use w2s::label::{Epoch, Items, OrderOptions, OrderPlan};
use w2s::run::SeedStream;
use w2s::score::PromptTree;

const NAMES: [&str; 8] = ["Ada", "Bruno", "Chen", "Dalia", "Emil", "Farah", "Goran", "Hana"];
const THINGS: [&str; 8] =
    ["marbles", "stamps", "shells", "coins", "pencils", "apples", "beads", "cards"];

/// Claims of about 42 tokens, with their labels.
pub struct Claims {
    pub items: Items,
    pub labels: Vec<Option<usize>>,
}

impl Claims {
    pub fn new(num: usize, seed: u64) -> Self {
        let mut rng = SeedStream::new(seed).rng("bench/claims", &[num as u64]);
        let words = ["False", "True"];
        let mut claims = Self {
            items: Items {
                ids: (0..num).map(|i| i.to_string()).collect(),
                questions: Vec::with_capacity(num),
                demonstrations: Vec::with_capacity(num),
                spell_special_tokens: false,
                instruction: String::new(),
                content_free: Vec::new(),
                labels: PromptTree::labels(words),
                words: vec![PromptTree::labels(words); num],
            },
            labels: (0..num).map(|i| Some(i % 2)).collect(),
        };
        for i in 0..num {
            let (a, b) = (rng.random_range(11..100), rng.random_range(11..100));
            let pick = |from: &[&'static str; 8], rng: &mut _| *from.choose(rng).unwrap_or(&"");
            let (name, thing) = (pick(&NAMES, &mut rng), pick(&THINGS, &mut rng));
            let said = if i % 2 == 1 { a + b } else { a + b + rng.random_range(1..10) };
            let question = format!(
                "Question: {name} has {a} {thing} and finds {b} more. How many {thing} are there?\n\
                 Claim: There are {said} {thing}.\nI think this claim is "
            );
            claims
                .items
                .demonstrations
                .push(words.map(|word| format!("{question}{word}\n\n")).to_vec());
            claims.items.questions.push(question);
        }
        claims
    }

    /// Returns the tree that asks for every claim behind all others.
    pub fn tree(&self, order: OrderOptions) -> PromptTree {
        let streams = SeedStream::new(0);
        let plan = OrderPlan::new(order, &self.items, &self.labels, &streams, Epoch::default());
        let targets: Vec<usize> = (0..self.items.len()).collect();
        plan.ask(&self.items, &self.labels, &targets, false).tree
    }

    /// Writes the same prompts in full, in the published order, for other programs. A space before
    /// the label is the label's.
    pub fn write_prompts(&self, path: &Path) -> Result<()> {
        let shown: Vec<&str> = self
            .labels
            .iter()
            .zip(&self.items.demonstrations)
            .map(|(label, texts)| texts[label.unwrap_or(0)].as_str())
            .collect();
        let prompts: Vec<String> = (0..shown.len())
            .map(|i| {
                let others = [&shown[..i], &shown[i + 1..]].concat().concat();
                others + self.items.questions[i].trim_end()
            })
            .collect();
        write_json(path, &json!(prompts))
    }
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    std::fs::write(path, value.to_string()).map_err(|e| Error::io("write", path, &e))
}

/// A model's shape; the other settings are Llama's.
pub struct Shape {
    pub vocab: usize,
    pub width: usize,
    pub wide: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub rope_theta: f64,
    pub tied: bool,
}

pub const SMOLLM2_135M: Shape = Shape {
    vocab: 49_152,
    width: 576,
    wide: 1536,
    layers: 30,
    heads: 9,
    kv_heads: 3,
    rope_theta: 1e5,
    tied: true,
};

pub const LLAMA3_8B: Shape = Shape {
    vocab: 128_256,
    width: 4096,
    wide: 14_336,
    layers: 32,
    heads: 32,
    kv_heads: 8,
    rope_theta: 5e5,
    tied: false,
};

pub const SMALL: Shape = Shape {
    vocab: 49_152,
    width: 64,
    wide: 128,
    layers: 2,
    heads: 4,
    kv_heads: 2,
    rope_theta: 1e4,
    tied: false,
};

impl Shape {
    /// Returns the weights of all matrices that every token passes through, the head left out.
    pub fn matrix_weights(&self) -> f64 {
        let head = self.width / self.heads;
        let attention = 2 * self.width * (self.heads + self.kv_heads) * head;
        (self.layers * (attention + 3 * self.width * self.wide)) as f64
    }

    /// Returns the floating-point operations of a causal pass over `len` tokens, without the head.
    pub fn prefill_operations(&self, len: usize) -> f64 {
        let pairs = (len * (len + 1) / 2) as f64;
        2.0 * self.matrix_weights() * len as f64 + 4.0 * pairs * (self.width * self.layers) as f64
    }

    /// Returns the floating-point operations of a training step of a low-rank adapter on queries and
    /// values, for sequences of `len` tokens of which the last `num_learnt` are learnt: two for each
    /// weight and token on the way there and two on the way back (to the inputs only, weights are
    /// frozen), six for each weight of the adapter, twelve for each pair that attention sees, and the
    /// head where something is learnt. Blocks that run again on the way back are not counted twice.
    pub fn train_operations(
        &self,
        sequences: usize,
        len: usize,
        num_learnt: usize,
        r: usize,
    ) -> f64 {
        let kv = self.kv_heads * (self.width / self.heads);
        let adapter = (self.layers * r * (3 * self.width + kv)) as f64;
        let pairs = (len * (len + 1) / 2 * self.width * self.layers) as f64;
        let head = (self.vocab * self.width * num_learnt) as f64;
        let of_tokens = (4.0 * self.matrix_weights() + 6.0 * adapter) * len as f64;
        sequences as f64 * (of_tokens + 12.0 * pairs + 4.0 * head)
    }

    /// Makes a model folder of this shape with random weights, and the tokenizer of a real model
    /// where there is one, else of a fixture (which has fewer words, so claims are longer).
    pub fn folder(&self, folder: &Path, models: &Path) -> Result<PathBuf> {
        std::fs::create_dir_all(folder).map_err(|e| Error::io("make", folder, &e))?;
        let config = json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "hidden_size": self.width,
            "intermediate_size": self.wide,
            "max_position_embeddings": 131_072,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "rms_norm_eps": 1e-5,
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": self.tied,
            "vocab_size": self.vocab,
        });
        write_json(&folder.join("config.json"), &config)?;
        write_json(&folder.join("random_weights.json"), &json!({"seed": 1}))?;
        let sources = [models.join("smollm2-135m-instruct"), PathBuf::from("tests/parity/llama")];
        let source = sources
            .iter()
            .map(|from| from.join("tokenizer.json"))
            .find(|path| path.exists())
            .ok_or_else(|| Error::new(ErrorKind::Tokenizer, "there is no tokenizer.json"))?;
        let target = folder.join("tokenizer.json");
        std::fs::copy(&source, &target).map_err(|e| Error::io("copy", &source, &e))?;
        Ok(folder.to_path_buf())
    }
}
