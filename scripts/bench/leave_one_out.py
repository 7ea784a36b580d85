#!/usr/bin/env python3
"""Leave-one-out scoring of N claims: w2s against transformers, in one run.

    python3 -m venv .setup/bench
    .setup/bench/bin/pip install -r scripts/bench/requirements.txt
    cargo build --release && scripts/setup
    .setup/bench/bin/python scripts/bench/leave_one_out.py [--sizes 32 64] [--dtypes f32 bf16]

Every claim is scored behind all others as demonstrations. transformers runs in two ways, with the head
at the last position only:

- `prompts`: the N whole prompts in batches of 8, padded, as most scripts do;
- `prefix`: one prompt after another in the order of the data, keys and values of what a prompt has in
  common with the one before it kept (`past_key_values`), as a script would that cares.

Both are timed in full up to --whole claims; beyond, evenly spread parts are timed and multiplied by
tokens (`timed`). Before that, 16 claims are scored in the order of the data by all three, and the
log-probabilities of the labels must agree. w2s runs `label --method few-shot` and its own clock
(timing.json, without opening the model). The sides take turns; the ratio of each round is formed from
neighbours. --dtypes defaults to f32, and bf16 where the processor multiplies it.
"""

import argparse
import time
from pathlib import Path

import torch
import transformers

from common import MODEL, claims, compare, has_bf16, machine, prompts, w2s

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
# Two f32 programs differ by sums in another order; bf16 rounds states and products.
TOLERANCE = {"f32": 1e-3, "bf16": 0.15}
LABELS = ("False", "True")


def evenly(total, most):
    """Returns at most `most` of the numbers below `total`, evenly spread."""
    if total <= most:
        return list(range(total))
    return sorted({round((i + 0.5) * total / most - 0.5) for i in range(most)})


class Transformers:
    def __init__(self, folder, dtype):
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPES[dtype])
        self.model.eval()

    def ids(self, texts):
        return [self.tokenizer(text)["input_ids"] for text in texts]

    def run(self, ids, cache=None):
        """Runs tokens behind a cache and returns the log-probabilities of the next one."""
        kept = {} if cache is None else {"past_key_values": cache, "use_cache": True}
        out = self.model(torch.tensor([ids]), logits_to_keep=1, **kept)
        return out.logits[0, -1].float().log_softmax(-1)

    def in_prompts(self, texts, most, batch=8):
        """Returns seconds for all texts, tokens of all texts, and how much of it was timed."""
        ids = self.ids(texts)
        total = sum(map(len, ids))
        starts = list(range(0, len(ids), batch))
        done, spent = 0, 0.0
        for start in (starts[i] for i in evenly(len(starts), max(1, most // batch))):
            part = ids[start:start + batch]
            padded = self.tokenizer.pad({"input_ids": part}, return_tensors="pt")
            began = time.perf_counter()
            with torch.inference_mode():
                out = self.model(**padded, logits_to_keep=1)
                torch.log_softmax(out.logits[:, -1].float(), -1).sum().item()
            spent += time.perf_counter() - began
            done += sum(map(len, part))
        return spent * total / done, total, done / total

    def by_prefix(self, texts, most, rows=None):
        """As `in_prompts`; puts the log-probabilities behind each prompt into `rows`."""
        ids = self.ids(texts)
        shared = [0] + [common(a, b) for a, b in zip(ids, ids[1:])]
        own = [len(prompt) - keep for prompt, keep in zip(ids, shared)]
        done, spent = 0, 0.0
        with torch.inference_mode():
            cache, held = transformers.DynamicCache(), []
            for i in evenly(len(ids), most):
                keep = shared[i]
                if held[:keep] != ids[i][:keep]:
                    # Prompts before this one were left out: what is shared comes into the cache untimed.
                    cache, held = transformers.DynamicCache(), ids[i][:keep]
                    if keep:
                        self.run(held, cache)
                began = time.perf_counter()
                if len(held) > keep:
                    cache.crop(keep - len(held))
                row = self.run(ids[i][keep:], cache)
                row.sum().item()
                spent += time.perf_counter() - began
                held = ids[i]
                done += own[i]
                if rows is not None:
                    rows.append(row)
        return spent * sum(own) / done, sum(own), done / sum(own)


def common(one, other):
    return next((i for i, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))


def check(peer, folder, dtype):
    """Holds the peer's log-probabilities of the labels against those of w2s."""
    rows, found = claims(16), []
    peer.by_prefix(prompts(rows), len(rows), found)
    mine = w2s(folder, rows, ["--order", "dataset"], dtype).records
    ids = [peer.tokenizer(" " + name, add_special_tokens=False)["input_ids"] for name in LABELS]
    assert all(len(label) == 1 for label in ids), ids
    theirs = [{name: row[label[0]].item() for name, label in zip(LABELS, ids)} for row in found]
    # Labels only: what both leave to other words falls out.
    odds = lambda row: row["True"] - row["False"]
    apart = max(abs(odds(a) - odds(b["logprobs"])) for a, b in zip(theirs, mine))
    if apart > TOLERANCE[dtype]:
        raise SystemExit(f"the sides differ by {apart:.4f} nats in {dtype}")
    print(f"{dtype}: log-odds of 16 claims agree within {apart:.1g} nats", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["f32"] + ["bf16"] * has_bf16())
    parser.add_argument("--whole", type=int, default=64, help="claims up to which all is timed")
    parser.add_argument("--timed", type=int, default=16, help="prompts that are timed beyond")
    args = parser.parse_args()
    print(machine(args.model, f"torch {torch.__version__}", f"transformers {transformers.__version__}"))
    for dtype in args.dtypes:
        peer = Transformers(args.model, dtype)
        check(peer, args.model, dtype)
        for name, way in ("prompts", peer.in_prompts), ("prefix", peer.by_prefix):
            def seconds(texts, way=way):
                return way(texts, len(texts) if len(texts) <= args.whole else args.timed)
            compare(f"transformers, {name}, {dtype}", args.model, args.sizes, args.rounds, seconds,
                    dtype=dtype)


if __name__ == "__main__":
    main()
