//! What several tests need.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The project's folder.
pub fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of a real model, which `scripts/setup` makes.
pub fn model(name: &str) -> PathBuf {
    let folder = project().join("models").join(name);
    assert!(
        folder.join("model.safetensors").exists(),
        "{} is missing; run scripts/setup (or scripts/test, which does)",
        folder.display()
    );
    folder
}

/// A fixture of `tests/parity`.
pub fn tiny(name: &str) -> PathBuf {
    project().join("tests/parity").join(name)
}

/// A copy of a fixture's model files, to be damaged.
pub fn copy_of(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        std::fs::copy(tiny(name).join(file), folder.path().join(file)).unwrap();
    }
    folder
}

#[derive(Deserialize)]
struct Golden {
    prompts: Vec<GoldenPrompt>,
}

/// What transformers gave for one prompt of a fixture.
#[derive(Deserialize)]
pub struct GoldenPrompt {
    pub text: String,
    pub ids: Vec<u32>,
    pub mean_nll: f64,
    pub last_top_ids: Vec<i64>,
    pub last_top_logprobs: Vec<f64>,
    pub logits_sum: f64,
    pub logits_abs_mean: f64,
    pub greedy: Vec<u32>,
}

/// The numbers of a fixture folder.
pub fn golden(folder: &Path) -> Vec<GoldenPrompt> {
    let text = std::fs::read_to_string(folder.join("golden.json")).unwrap();
    serde_json::from_str::<Golden>(&text).unwrap().prompts
}

/// The parents of a plain sequence's tokens.
pub fn chain(num: usize) -> Vec<Option<usize>> {
    (0..num).map(|i| i.checked_sub(1)).collect()
}
