//! How what was trained is used from Python, as its model card says it.

use std::path::Path;

use serde_json::json;

use crate::data::Task;

/// Returns the part of a card that asks the model once with transformers, through PEFT for an adapter.
///
/// The base model stands there by a path that works from anywhere, the trained files by `.`, the folder of
/// the card.
pub(super) fn use_from_python(base: &Path, is_adapter: bool, task: &Task) -> String {
    let base = std::path::absolute(base).unwrap_or_else(|_| base.to_path_buf());
    // JSON's strings are Python's.
    let text = |text: &str| json!(text).to_string();
    let prompt = [task.prompt.instruction.as_str(), &task.prompt.template].concat();
    let mut card =
        format!("## Use it from Python\n\nThe prompt that it was trained with is `{}`", task.name);
    card += "'s: the text below, with the fields of an example in place of the names in braces.\n\n```python\n";
    if is_adapter {
        card += "from peft import PeftModel\n";
    }
    card += "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n";
    let (base, folder) =
        (text(&base.display().to_string()), "folder = \".\"  # where this card lies\n");
    if is_adapter {
        card += &format!("base = {base}  # or the model's name on the hub\n{folder}");
        card += "tokenizer = AutoTokenizer.from_pretrained(base)\n";
        card += "model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).eval()\n";
    } else {
        card += folder;
        card += "tokenizer = AutoTokenizer.from_pretrained(folder)\n";
        card += "model = AutoModelForCausalLM.from_pretrained(folder).eval()\n";
    }
    card += &format!("prompt = {}\n", text(&prompt));
    if !task.answers.is_open && !task.has_options() && !task.prompt.words.is_empty() {
        let words: Vec<String> = task.prompt.words.iter().map(|word| text(word)).collect();
        card += &format!("words = [{}]\n", words.join(", "));
        card += "rows = [tokenizer(prompt + word, return_tensors=\"pt\").input_ids for word in words]\n";
        card += "start = next(i for i, ids in enumerate(zip(*(row[0].tolist() for row in rows))) if len(set(ids)) > 1)\n";
        card += "for word, ids in zip(words, rows):  # natural logs, from the first token at which the words differ\n";
        card += "    logprobs = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])\n";
        card += "    print(word, float(logprobs[start - 1 :].sum()))\n";
    } else {
        card += "ids = tokenizer(prompt, return_tensors=\"pt\")\n";
        card += "print(tokenizer.decode(model.generate(**ids, max_new_tokens=50, do_sample=False)[0]))\n";
    }
    card + "```\n\n"
}
