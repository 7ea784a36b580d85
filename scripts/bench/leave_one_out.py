#!/usr/bin/env python3
"""Leave-one-out scoring of N claims: w2s against transformers with full prompts, in one run.

    python3 -m venv .setup/bench
    .setup/bench/bin/pip install -r scripts/bench/requirements.txt
    cargo build --release && scripts/setup
    .setup/bench/bin/python scripts/bench/leave_one_out.py [--sizes 32 64 128] [--rounds 3]

Every claim is scored behind all others as demonstrations. transformers runs the N prompts in batches
of 8, padded, with the head at the last position only; where that takes long, one batch is timed and
multiplied (`timed`). w2s runs `label --method few-shot` and its own clock (timing.json, without
opening the model). The two take turns; the ratio of each round is formed from neighbours.
"""

import argparse
import time
from pathlib import Path

import torch
import transformers

from common import MODEL, compare, machine

BARS = {"halving": {32: 6, 64: 9, 128: 15}, "default": {64: 5, 128: 9}}


class Transformers:
    def __init__(self, folder, batch=8):
        self.batch = batch
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.model.eval()

    def seconds(self, texts, max_batches):
        """Returns seconds for all texts, tokens of all texts, and how much of it was timed."""
        ids = [self.tokenizer(t)["input_ids"] for t in texts]
        total = sum(map(len, ids))
        starts = list(range(0, len(ids), self.batch))[:max_batches]
        done, spent = 0, 0.0
        for start in starts:
            part = ids[start:start + self.batch]
            batch = self.tokenizer.pad({"input_ids": part}, return_tensors="pt")
            began = time.perf_counter()
            with torch.inference_mode():
                out = self.model(**batch, logits_to_keep=1)
                torch.log_softmax(out.logits[:, -1].float(), -1).sum().item()
            spent += time.perf_counter() - began
            done += sum(map(len, part))
        return spent * total / done, total, done / total


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-batches", type=int, default=1, help="batches of transformers timed")
    args = parser.parse_args()
    print(machine(args.model, f"torch {torch.__version__}", f"transformers {transformers.__version__}"))
    other = Transformers(args.model)
    compare("transformers", args.model, args.sizes, args.rounds,
            lambda texts: other.seconds(texts, args.max_batches), BARS)


if __name__ == "__main__":
    main()
