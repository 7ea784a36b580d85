//! What several tests need.

use std::path::{Path, PathBuf};

pub use crate::golden::{GoldenPrompt, chain};

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

/// The numbers of a fixture folder.
pub fn golden(folder: &Path) -> Vec<GoldenPrompt> {
    crate::golden::golden(folder).unwrap()
}

/// Made-up reviews `text 0`, `text 1`, ... as the sentiment task writes them.
pub fn sentiment_items(num: usize) -> w2s::label::Items {
    let task = w2s::data::Task::load("sentiment").unwrap();
    let format = w2s::prompt::PromptFormat::new(&task).unwrap();
    let data = crate::search::examples(num);
    w2s::label::Items::new(&format, &data.iter().collect::<Vec<_>>()).unwrap()
}
