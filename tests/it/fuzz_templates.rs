//! Chat templates under damage: each renders or is an error, within the limits, never a panic. Counts:
//! `W2S_FUZZ_EXECUTIONS` (see `mutate`).

use serde_json::{Value, json};
use w2s::lm::{ChatTemplate, Message};

use crate::common::project;
use crate::mutate;

#[test]
fn templates() {
    let path = project().join("tests/parity/chat_templates.json");
    let all: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut seeds: Vec<Vec<u8>> = all["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| case["template"].as_str().unwrap().as_bytes().to_vec())
        .collect();
    seeds.sort();
    seeds.dedup();
    let folder = tempfile::tempdir().unwrap();
    let messages = [("user", "Is it?"), ("assistant", "It is."), ("user", "Sure?")]
        .map(|(role, content)| Message { role: role.into(), content: content.into() });
    let mut num_rendered = 0;
    mutate::run("templates", &seeds, |bytes| {
        let mut config = all["tokens"].clone();
        config["chat_template"] = json!(String::from_utf8_lossy(bytes));
        let file = folder.path().join("tokenizer_config.json");
        std::fs::write(file, config.to_string()).unwrap();
        if let Ok(Some(chat)) = ChatTemplate::open(folder.path()) {
            num_rendered += usize::from(chat.render(&messages, true).is_ok());
        }
    });
    assert!(num_rendered > seeds.len(), "the seeds, and more, render: {num_rendered}");
}
