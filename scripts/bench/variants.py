#!/usr/bin/env python3
"""Weak answers to variants of questions: w2s against transformers, in one run.

    python3 -m venv .setup/bench
    .setup/bench/bin/pip install -r scripts/bench/requirements.txt
    cargo build --release && scripts/setup
    .setup/bench/bin/python scripts/bench/variants.py --task hellaswag --data QUESTIONS.jsonl

Each round takes other questions. w2s runs `filter --entropy` (label distributions of the variants'
tree) and its own clock (timing.json, without opening the model). transformers gets the very prompts
that w2s wrote down, in two ways: as published, one prompt at a time, 50 tokens written greedily; and
at its best, next-token scores of batches sorted by length, with the head at the last position only.
The published way is timed on a share of each round's questions. Neighbours give the ratios.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch
import transformers

from common import MODEL, ROOT, machine, spread

NEW_TOKENS = 50


def w2s(model, task, questions, folder):
    """Returns seconds, tokens computed and the prompts of one run."""
    data, out = folder / "questions.jsonl", folder / "run"
    data.write_text("".join(questions))
    command = [ROOT / "target/release/w2s", "filter", "--entropy", "--model", model, "--task", task, "--data", data,
               "--out", out, "--device", "cpu", "--dtype", "f32"]
    subprocess.run(command, check=True, capture_output=True)
    read = lambda name: json.loads((out / name).read_text())
    rows = [json.loads(line) for line in (out / "answers.jsonl").open()]
    return (read("timing.json")["work_seconds"], read("summary.json")["tokens_computed"],
            [row["prompt"] for row in rows])


class Transformers:
    def __init__(self, folder):
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.model.eval()

    def published(self, prompts):
        """Returns seconds and tokens computed, prompt by prompt with 50 tokens written."""
        began, tokens = time.perf_counter(), 0
        for prompt in prompts:
            ids = self.tokenizer(prompt, return_tensors="pt")
            with torch.no_grad():
                out = self.model.generate(**ids, max_new_tokens=NEW_TOKENS, do_sample=False)
            tokens += out.shape[1] - 1
        return time.perf_counter() - began, tokens

    def scored(self, prompts, batch):
        """Returns seconds and tokens of the prompts, next-token scores of batches by length."""
        ids = sorted((self.tokenizer(p)["input_ids"] for p in prompts), key=len)
        began = time.perf_counter()
        for start in range(0, len(ids), batch):
            part = self.tokenizer.pad({"input_ids": ids[start:start + batch]}, return_tensors="pt")
            with torch.inference_mode():
                out = self.model(**part, logits_to_keep=1)
                torch.log_softmax(out.logits[:, -1].float(), -1).sum().item()
        return time.perf_counter() - began, sum(map(len, ids))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--task", default="hellaswag")
    parser.add_argument("--data", type=Path, required=True, help="JSON lines, a question each")
    parser.add_argument("--questions", type=int, default=16, help="questions of a round")
    parser.add_argument("--published-questions", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=10, help="prompts of a transformers batch")
    args = parser.parse_args()
    print(machine(args.model, f"torch {torch.__version__}", f"transformers {transformers.__version__}"))
    lines = args.data.read_text().splitlines(keepends=True)
    other = Transformers(args.model)
    ratios = {"published": [], "batched": []}
    for number in range(args.rounds):
        questions = lines[number * args.questions:(number + 1) * args.questions]
        with tempfile.TemporaryDirectory() as folder:
            seconds, tokens, prompts = w2s(args.model, args.task, questions, Path(folder))
        per_question = len(prompts) // len(questions)
        some = prompts[:args.published_questions * per_question]
        scale = len(prompts) / len(some)
        ways = {"published": (*other.published(some), scale),
                "batched": (*other.scored(prompts, args.batch), 1)}
        for way, (theirs, their_tokens, scale) in ways.items():
            ratio, of_tokens = theirs * scale / seconds, their_tokens * scale / tokens
            ratios[way].append((ratio, of_tokens))
            print(f"round {number}: {way:<9} {theirs * scale:7.1f} s, w2s {seconds:5.1f} s: "
                  f"ratio {ratio:5.2f}, of tokens {of_tokens:.2f} "
                  f"({their_tokens * scale:.0f} / {tokens})", flush=True)
    for way, bar in [("published", 12), ("batched", 1.4)]:
        both = ratios[way]
        share = statistics.median(ratio / of_tokens for ratio, of_tokens in both)
        print(f"{way}: ratio {spread([ratio for ratio, _ in both])} (bar {bar}), "
              f"{share:.2f} of the ratio of tokens (bar 0.85)")


if __name__ == "__main__":
    main()
