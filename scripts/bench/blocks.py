#!/usr/bin/env python3
"""Searches by blocks against single proposals, on the same texts from the same seeds.

    scripts/bench/blocks.py run --set sst2=sentiment:DATA.jsonl --size 32 --seeds 0 1 2 >> ROWS
    scripts/bench/blocks.py table [--rows data/measured/blocks.jsonl]

`run` draws `--size` texts of at most `--longest` characters for each seed, labels them by `w2s label`
with `--block auto` and `--block 1` (`--blocks`), without the checks after a search, and prints one JSON
line a search: no text, only numbers. Gold is read by this script alone, after the search. Runs go to
`--runs` and are taken up where they stopped. Tokens and passes do not depend on what else the machine
does; seconds do and are not kept. `table` pairs the rows: means over seeds, with 95 % intervals of
Student's t for differences.
"""

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

from common import ROOT

# Two-sided 97.5 % points of Student's t, by degrees of freedom.
STUDENT = [math.inf, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228]


def gold_of(row, task):
    """Returns the name of a row's label; a number counts the task's labels."""
    labels = tomllib.loads((ROOT / "data/tasks" / f"{task}.toml").read_text())["labels"]
    gold = row["label"]
    return labels[gold]["name"] if isinstance(gold, int) else gold


def search(arguments, name, task, texts, seed, block):
    runs = Path(arguments.runs)
    folder = runs / f"{name}-{len(texts)}-{seed}-{block}"
    data = runs / f"{name}-{len(texts)}-{seed}.jsonl"
    runs.mkdir(parents=True, exist_ok=True)
    shown = [{"id": str(i), "text": row["text"]} for i, row in enumerate(texts)]
    data.write_text("".join(json.dumps(row) + "\n" for row in shown))
    subprocess.run(
        [arguments.w2s, "label", "--model", arguments.model, "--task", task, "--data", data,
         "--method", "icm", "--block", block, "--seed", str(seed), "--dtype", arguments.dtype,
         "--no-order-check", "--null-permutations", "0", "--out", folder, "--resume"],
        check=True, stdout=sys.stderr)
    summary = json.loads((folder / "summary.json").read_text())
    records = [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines()]
    found = {record["id"]: record["label"] for record in records}
    right = [found.get(str(i)) == gold_of(row, task) for i, row in enumerate(texts)]
    largest = Counter(found.values()).most_common(1)[0][1]
    return {
        "set": name, "num": len(texts), "seed": seed, "block": block,
        "model": Path(arguments.model).name, "dtype": arguments.dtype,
        "tokens": summary["tokens_computed"], "passes": summary["num_passes"],
        "score": summary["score"], "accuracy": sum(right) / len(texts),
        "largest_share": largest / len(texts),
    }


def run(arguments):
    for spec in arguments.set:
        name, rest = spec.split("=", 1)
        task, path = rest.split(":", 1)
        rows = [json.loads(line) for line in Path(path).read_text().splitlines() if line.strip()]
        rows = [row for row in rows if len(row["text"]) <= arguments.longest]
        for seed in arguments.seeds:
            texts = random.Random(f"{name} {arguments.size} {seed}").sample(rows, arguments.size)
            for block in arguments.blocks:
                print(json.dumps(search(arguments, name, task, texts, seed, block)), flush=True)


def interval(values):
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:+.2f}"
    half = STUDENT[min(len(values) - 1, 10)] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"


def table(arguments):
    rows = {}
    for line in Path(arguments.rows).read_text().splitlines():
        row = json.loads(line)
        rows[row["set"], row["num"], row["seed"], row["block"]] = row
    blocks = {}
    for name, num, seed, block in rows:
        if block == "auto" and (name, num, seed, "1") in rows:
            pair = rows[name, num, seed, "1"], rows[name, num, seed, "auto"]
            blocks.setdefault((name, num), []).append(pair)
    print("| set | texts | pairs | tokens, single | blocks | gain | passes, single | blocks | U of blocks "
          "less single | accuracy of blocks less single | largest share, single | blocks |")
    print("|" + "---|" * 12)
    for (name, num), pairs in sorted(blocks.items()):
        mean = lambda key, which: statistics.fmean(pair[which][key] for pair in pairs)
        apart = lambda key, by=1: interval([by * (b[key] - a[key]) for a, b in pairs])
        gain = statistics.geometric_mean([a["tokens"] / b["tokens"] for a, b in pairs])
        print(f"| {name} | {num} | {len(pairs)} | {mean('tokens', 0):,.0f} | {mean('tokens', 1):,.0f} | "
              f"{gain:.1f} | {mean('passes', 0):.1f} | {mean('passes', 1):.1f} | {apart('score')} | "
              f"{apart('accuracy', 100)} | {mean('largest_share', 0):.2f} | "
              f"{mean('largest_share', 1):.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    runs = commands.add_parser("run")
    runs.set_defaults(do=run)
    runs.add_argument("--w2s", default=ROOT / "target/release/w2s", type=Path)
    runs.add_argument("--model", default=ROOT / "models/gemma-3-270m", type=Path)
    runs.add_argument("--set", action="append", required=True, metavar="NAME=TASK:FILE")
    runs.add_argument("--size", type=int, default=32)
    runs.add_argument("--longest", type=int, default=80)
    runs.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    runs.add_argument("--blocks", nargs="+", default=["auto", "1"])
    runs.add_argument("--dtype", default="f32")
    runs.add_argument("--runs", default=ROOT / "target/blocks")
    tables = commands.add_parser("table")
    tables.set_defaults(do=table)
    tables.add_argument("--rows", default=ROOT / "data/measured/blocks.jsonl", type=Path)
    arguments = parser.parse_args()
    arguments.do(arguments)


if __name__ == "__main__":
    main()
