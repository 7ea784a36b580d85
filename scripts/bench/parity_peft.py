#!/usr/bin/env python3
"""What w2s trains, read by peft and transformers: the largest difference of log-probabilities.

    python3 -m venv .setup/bench
    .setup/bench/bin/pip install torch==2.11.0 transformers==5.23.0 peft==0.21.2
    cargo build --release && scripts/setup
    .setup/bench/bin/python scripts/bench/parity_peft.py

Trains an adapter on the demo's reviews, merges it, and asks for the log-probabilities of words after
prompts, in float32 on the CPU: w2s with the adapter against peft with the same folder, and w2s and
transformers with the merged folder. Fails above the bar; prints too how far the adapter moves them.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import peft
import torch
import transformers

from common import MODEL, ROOT

DEMO = ROOT / "data/demo"
WORDS = [" negative", " positive", " a", " the", " good", " bad", " dull film", " Because", "\n", " 7"]
NUM_PROMPTS, BAR = 8, 1e-3


def prompts():
    lines = (DEMO / "reviews.jsonl").read_text().splitlines()[-NUM_PROMPTS:]
    return [f"Review: {json.loads(line)['text']}\nSentiment:" for line in lines]


def w2s_logprobs(program, folder, model, *adapter):
    """Returns what `w2s score` says, a row a prompt."""
    asked = folder / "asked.jsonl"
    rows = [{"id": str(i), "prompt": prompt, "labels": WORDS} for i, prompt in enumerate(prompts())]
    asked.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [program, "score", "--model", model, *adapter, "--input", asked, "--device", "cpu",
               "--dtype", "f32"]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    answers = [json.loads(line)["logprobs"] for line in out.splitlines()]
    return torch.tensor([[answer[word] for word in WORDS] for answer in answers], dtype=torch.float64)


@torch.inference_mode()
def their_logprobs(model, tokenizer):
    """Returns the same of a model of transformers or peft."""
    rows = []
    for prompt in prompts():
        row = []
        for word in WORDS:
            tokens = tokenizer(prompt + word, return_offsets_mapping=True, return_tensors="pt")
            ids, ends = tokens["input_ids"], tokens["offset_mapping"][0, :, 1]
            first = int((ends > len(prompt)).nonzero()[0])
            logprobs = model(ids).logits[0].log_softmax(-1)
            row.append(logprobs[first - 1:-1].gather(1, ids[0, first:, None]).double().sum().item())
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/w2s")
    args = parser.parse_args()
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    plain = lambda folder: transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32).eval()
    common = ["--model", args.model, "--device", "cpu", "--dtype", "f32"]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run, merged = folder / "run", folder / "merged"
        subprocess.run(
            [args.program, "train", *common, "--task", "sentiment", "--data", DEMO / "reviews.jsonl",
             "--labels", "gold", "--gold", DEMO / "reviews.gold.jsonl", "--lr", "1e-3", "--epochs", "2",
             "--batch-size", "8", "--target-modules", "all-linear", "--out", run], check=True)
        subprocess.run(
            [args.program, "merge", *common, "--adapter", run, "--out", merged], check=True)
        base = plain(args.model)
        before = their_logprobs(base, tokenizer)
        theirs = their_logprobs(peft.PeftModel.from_pretrained(base, run).eval(), tokenizer)
        ours = w2s_logprobs(args.program, folder, args.model, "--adapter", run)
        ours_merged = w2s_logprobs(args.program, folder, merged)
        theirs_merged = their_logprobs(
            plain(merged), transformers.AutoTokenizer.from_pretrained(merged))
    largest = lambda a, b: (a - b).abs().max().item()
    found = {"w2s with the adapter, and peft": largest(ours, theirs),
             "w2s and transformers with the merged model": largest(ours_merged, theirs_merged),
             "merged, and peft with the adapter": largest(theirs_merged, theirs)}
    print(f"peft {peft.__version__}, transformers {transformers.__version__}, torch {torch.__version__}")
    print(f"the adapter moves log-probabilities by up to {largest(before, theirs):.2f}")
    for what, apart in found.items():
        print(f"{what}: at most {apart:.1e} apart")
    if max(found.values()) > BAR or largest(before, theirs) < 0.1:
        raise SystemExit(f"more than {BAR} apart, or nothing was trained")


if __name__ == "__main__":
    main()
