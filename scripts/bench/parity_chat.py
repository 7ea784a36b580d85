#!/usr/bin/env python3
"""What transformers says of label words as a chat model's answer: tests/parity/chat.json.

    python3 -m venv .setup/bench
    .setup/bench/bin/pip install torch==2.11.0 transformers==5.23.0
    .setup/bench/bin/python scripts/bench/parity_chat.py

Messages about the demo's reviews, in float32 on the CPU, for a real chat model and for a tiny model whose
template spells the begin token.
"""

import json
import shutil
import tempfile
from pathlib import Path

import torch
import transformers

ROOT = Path(__file__).parents[2]
WORDS = ["negative", "positive"]
NUM_REVIEWS = 4


def message(text):
    return f"Review: {text}\nSentiment:\n\nAnswer with {' or '.join(WORDS)} only."


def answers(folder, texts):
    """Returns the prompt of each text up to the answer, and each word's log-probability after it."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    rows = []
    for text in texts:
        user = {"role": "user", "content": message(text)}
        row = {"text": text, "message": message(text), "logprobs": []}
        for word in WORDS:
            whole = tokenizer.apply_chat_template(
                [user, {"role": "assistant", "content": word}], tokenize=False)
            begin = whole.rindex(word)
            row["prompt"] = whole[:begin]
            tokens = tokenizer(whole[:begin] + word, add_special_tokens=False, return_offsets_mapping=True,
                               return_tensors="pt")
            ids = tokens["input_ids"]
            first = next(i for i, (_, end) in enumerate(tokens["offset_mapping"][0].tolist()) if end > begin)
            with torch.inference_mode():
                logprobs = model(ids).logits[0].log_softmax(-1)
            own = logprobs[first - 1:-1].gather(1, ids[0, first:, None])
            row["logprobs"].append(own.double().sum().item())
            row["num_prompt_tokens"] = first
        rows.append(row)
    return rows


def main():
    reviews = (ROOT / "data/demo/reviews.jsonl").read_text().splitlines()[:NUM_REVIEWS]
    texts = [json.loads(line)["text"] for line in reviews]
    with tempfile.TemporaryDirectory() as folder:
        tiny = Path(folder) / "llama"
        shutil.copytree(ROOT / "tests/parity/llama", tiny)
        shutil.copy(ROOT / "tests/data/chat_template.jinja", tiny)
        out = {"transformers": transformers.__version__, "torch": torch.__version__,
               "smollm2-135m-instruct": answers(ROOT / "models/smollm2-135m-instruct", texts),
               "llama": answers(tiny, texts)}
    (ROOT / "tests/parity/chat.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
