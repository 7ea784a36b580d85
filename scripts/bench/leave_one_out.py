#!/usr/bin/env python3
"""Leave-one-out scoring of N claims: w2s against transformers with full prompts, in one run.

    python3 -m venv .setup/bench
    .setup/bench/bin/pip install torch==2.11.0 transformers==5.23.0
    cargo build --release && scripts/setup
    .setup/bench/bin/python scripts/bench/leave_one_out.py [--sizes 32 64 128] [--rounds 3]

Every claim is scored behind all others as demonstrations. transformers runs the N prompts in batches
of 8, padded, with the head at the last position only; where that takes long, one batch is timed and
multiplied (`share`). w2s runs `label --method few-shot` and its own clock (timing.json, without
opening the model). The two take turns; the ratio of each round is formed from neighbours.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

# Threads that wait in a loop would slow whatever runs beside them; the same for both sides.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch  # noqa: E402
import transformers  # noqa: E402

ROOT = Path(__file__).parents[2]
BATCH = 8
NAMES = ["Ada", "Bruno", "Chen", "Dalia", "Emil", "Farah", "Goran", "Hana"]
THINGS = ["marbles", "stamps", "shells", "coins", "pencils", "apples", "beads", "cards"]


def claims(num):
    """Returns num claims of about 42 tokens with their labels."""
    rng = random.Random(num)
    rows = []
    for i in range(num):
        a, b = rng.randint(11, 99), rng.randint(11, 99)
        name, thing = rng.choice(NAMES), rng.choice(THINGS)
        said = a + b if i % 2 else a + b + rng.randint(1, 9)
        rows.append({
            "id": str(i),
            "question": f"{name} has {a} {thing} and finds {b} more. How many {thing} are there?",
            "choice": f"There are {said} {thing}.",
            "label": int(said == a + b),
        })
    return rows


def question(row):
    return f"Question: {row['question']}\nClaim: {row['choice']}\nI think this claim is "


def prompts(rows):
    shown = [question(r) + ("True" if r["label"] else "False") + "\n\n" for r in rows]
    # The space before the label is the label's: what is scored after is `is`.
    return ["".join(shown[:i] + shown[i + 1:]) + question(r).rstrip() for i, r in enumerate(rows)]


class Transformers:
    def __init__(self, folder):
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.model.eval()

    def seconds(self, texts, max_batches):
        """Returns seconds for all texts, tokens of all texts, and how much of it was timed."""
        ids = [self.tokenizer(t)["input_ids"] for t in texts]
        total = sum(map(len, ids))
        starts = list(range(0, len(ids), BATCH))[:max_batches]
        done, spent = 0, 0.0
        for start in starts:
            part = ids[start:start + BATCH]
            batch = self.tokenizer.pad({"input_ids": part}, return_tensors="pt")
            began = time.perf_counter()
            with torch.inference_mode():
                out = self.model(**batch, logits_to_keep=1)
                torch.log_softmax(out.logits[:, -1].float(), -1).sum().item()
            spent += time.perf_counter() - began
            done += sum(map(len, part))
        return spent * total / done, total, done / total


def w2s(folder, rows, arguments):
    """Returns seconds and tokens computed of one run of w2s."""
    with tempfile.TemporaryDirectory(dir=ROOT / "target") as place:
        data, out = Path(place) / "claims.jsonl", Path(place) / "run"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        subprocess.run(
            [ROOT / "target/release/w2s", "label", "--model", folder, "--task", "truthfulqa",
             "--data", data, "--method", "few-shot", "--demonstrations", data, "--calibrate", "none",
             "--out", out, *arguments],
            check=True, stderr=subprocess.DEVNULL)
        timing = json.loads((out / "timing.json").read_text())
        summary = json.loads((out / "summary.json").read_text())
    return timing["work_seconds"], summary["tokens_computed"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "models/smollm2-135m-instruct")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-batches", type=int, default=1, help="batches of transformers timed")
    args = parser.parse_args()
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo")
                if line.startswith("model name")), "unknown")
    print(f"{cpu}; {torch.get_num_threads()} threads; torch {torch.__version__}, "
          f"transformers {transformers.__version__}; {args.model.name}, float32")
    other = Transformers(args.model)
    ours = {"halving": ["--anchors", "0"], "default": []}
    print("| N | order | w2s s | transformers s | timed | ratio | of tokens | share of it |")
    print("|---|---|---|---|---|---|---|---|")
    for size in args.sizes:
        rows = claims(size)
        texts = prompts(rows)
        seen = {name: [] for name in ours}
        for _ in range(args.rounds):
            theirs, tokens, share = other.seconds(texts, args.max_batches)
            for name, arguments in ours.items():
                mine, computed = w2s(args.model, rows, arguments)
                seen[name].append((theirs / mine, mine, theirs, tokens / computed))
        for name, rounds in seen.items():
            ratio, mine, theirs, ideal = (statistics.median(x) for x in zip(*rounds))
            print(f"| {size} | {name} | {mine:.1f} | {theirs:.1f} | {share:.0%} | {ratio:.1f} "
                  f"({min(r[0] for r in rounds):.1f} to {max(r[0] for r in rounds):.1f}) | "
                  f"{ideal:.1f} | {ratio / ideal:.2f} |", flush=True)


if __name__ == "__main__":
    main()
