//! What several tests need.

use std::path::PathBuf;

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
