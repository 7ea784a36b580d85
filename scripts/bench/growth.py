#!/usr/bin/env python3
"""How the cost of pure halving grows with the number of claims: w2s alone.

    cargo build --release && scripts/setup
    python3 scripts/bench/growth.py [--sizes 16 32 64 128] [--rounds 3]

Three laws are fitted, each with one constant, by least squares of the relative error:

- tokens computed = a N log2 N
- seconds = a N log2 N
- seconds = operations / rate, with the operations of the linear maps (2 per weight and token) and of
  attention (4 per query and visible key, head and layer). A token attends to all before it on its
  path, which is N demonstrations long at the end: this part grows as N^2 log2 N.
"""

import argparse
import json
import math
import statistics
from pathlib import Path

from common import MODEL, ORDERS, claims, machine, w2s


def halving(num):
    """Returns demonstrations and questions run, and pairs of them where the first sees the second.

    A unit sees half of itself, as its tokens do.
    """
    units, pairs = 0, 0.0

    def halve(context, part):
        nonlocal units, pairs
        if part == 1:
            units += 1
            pairs += context + 0.5
            return
        left, right = part // 2, part - part // 2
        for targets, others in ((left, right), (right, left)):
            units += others
            pairs += others * (context + others / 2)
            halve(context + others, targets)

    halve(0, num)
    return units, pairs


def operations(config, num, tokens):
    units, pairs = halving(num)
    tokens_a_unit = tokens / units
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    queries = config["num_attention_heads"] * head
    keys = config["num_key_value_heads"] * head
    weights = config["hidden_size"] * (2 * queries + 2 * keys + 3 * config["intermediate_size"])
    layers = config["num_hidden_layers"]
    linear = 2 * layers * weights * tokens
    attention = 4 * layers * queries * pairs * tokens_a_unit ** 2
    return linear, attention


def fit(law, seen):
    """Returns the constant of law, and the relative deviation from it that is furthest from 0."""
    shares = [x / y for x, y in zip(law, seen)]
    constant = sum(shares) / sum(s * s for s in shares)
    deviations = [constant * s - 1 for s in shares]
    return constant, max(deviations, key=abs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    config = json.loads((args.model / "config.json").read_text())
    print(machine(args.model, "pure halving"))
    runs = {size: [] for size in args.sizes}
    for _ in range(args.rounds):
        for size in args.sizes:
            runs[size].append(w2s(args.model, claims(size), ORDERS["halving"]))
    seconds, tokens, work = [], [], []
    print("| N | seconds | tokens | tokens a second | GFLOP/s | attention's part of operations |")
    print("|---|---|---|---|---|---|")
    for size, rounds in runs.items():
        seconds.append(statistics.median(run.seconds for run in rounds))
        tokens.append(rounds[0].tokens)
        linear, attention = operations(config, size, tokens[-1])
        work.append(linear + attention)
        print(f"| {size} | {seconds[-1]:.1f} | {tokens[-1]:,} | {tokens[-1] / seconds[-1]:.0f} | "
              f"{work[-1] / seconds[-1] / 1e9:.0f} | {attention / work[-1]:.0%} |")
    law = [size * math.log2(size) for size in args.sizes]
    a, furthest = fit(law, tokens)
    print(f"tokens = {a:.1f} N log2 N, furthest {furthest:+.1%}")
    a, furthest = fit(law, seconds)
    print(f"seconds = {a:.4f} N log2 N, furthest {furthest:+.1%}")
    a, furthest = fit(work, seconds)
    print(f"seconds = operations / {1e-9 / a:.0f} GFLOP/s, furthest {furthest:+.1%}")


if __name__ == "__main__":
    main()
