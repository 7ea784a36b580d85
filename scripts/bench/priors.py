#!/usr/bin/env python3
"""What the supposed shares of labels do to accuracy, on even and uneven draws of one set.

    scripts/bench/priors.py store --run RUN --gold FILE --set NAME [--content-free RUN] >> SCORES
    scripts/bench/priors.py table [--scores data/measured/priors-scores.jsonl] [--draws 100] [--num 200]
    scripts/bench/priors.py reference > tests/data/priors.json

`store` takes the log-probabilities of a run of `w2s label --method zero-shot --calibrate none` and a gold
file (JSON lines with id and label; never seen by the run) and prints one JSON line without any text.
`table` draws, for every ratio and every label in the majority, `--draws` sets of `--num` items from it,
computes each prior on each draw, and prints JSON lines: means over the draws of accuracy, balanced
accuracy and share error (half the sum of absolute differences between the shares found and those of
gold), with the middle 95 % of the draws for the accuracies. `reference` prints values for the tests of
`src/score/prior.rs`. All arithmetic is numpy's; nothing here calls w2s.

`mixture` is not built into w2s: a normal distribution of log-odds for each label with one covariance,
fitted by EM, whose shares then place the border. It is here to tell how much is lost by not having it.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

SCORES = Path(__file__).parents[2] / "data" / "measured" / "priors-scores.jsonl"
RATIOS = (0.5, 0.75, 0.9, 0.99)


def log_softmax(rows):
    top = rows.max(axis=1, keepdims=True)
    return rows - top - np.log(np.exp(rows - top).sum(axis=1, keepdims=True))


def batch(rows):
    return log_softmax(rows - rows.mean(axis=0))


def batch_mean_prob(rows):
    return log_softmax(rows - np.log(np.exp(log_softmax(rows)).mean(axis=0)))


def estimated_shares(calibrated, added=1.0):
    """Saerens et al. 2002, equation 2.7, from equal shares, with one added item of each label."""
    scores = np.exp(calibrated)
    num, num_labels = scores.shape
    shares = np.full(num_labels, 1 / num_labels)
    for _ in range(1000):
        weighed = scores * shares
        weighed /= weighed.sum(axis=1, keepdims=True)
        after = (weighed.sum(axis=0) + added) / (num + added * num_labels)
        moved = np.abs(after - shares).max()
        shares = after
        if moved < 1e-7:
            break
    return shares


def estimated(calibrated):
    return log_softmax(calibrated + np.log(estimated_shares(calibrated)))


def border(rows, shares):
    """The offset at which the best labels have these shares."""
    shares = np.asarray(shares)
    offset = rows.mean(axis=0)
    apart = rows - offset
    apart = apart - apart.mean(axis=1, keepdims=True)
    spread = max(np.sqrt((apart**2).mean()), 1e-3)
    for times in (1.0, 4.0, 16.0):
        sharpness = times / spread
        for _ in range(100):
            means = np.exp(log_softmax(sharpness * (rows - offset))).mean(axis=0)
            step = np.log(np.maximum(means, np.finfo(float).tiny) / shares) / sharpness
            offset = offset + step
            if np.abs(step).max() < 1e-6 * spread:
                break
    return offset


def mixture_shares(rows, rounds=500):
    ratios = log_softmax(rows)
    ratios = (ratios - ratios.mean(axis=1, keepdims=True))[:, :-1]
    num, width = ratios.shape
    belongs = np.eye(width + 1)[batch(rows).argmax(axis=1)] * 0.8 + 0.2 / (width + 1)
    shares = None
    for _ in range(rounds):
        shares = (belongs.sum(axis=0) + 1) / (num + width + 1)
        means = (belongs.T @ ratios) / (belongs.sum(axis=0)[:, None] + 1e-9)
        covariance = 1e-6 * np.eye(width)
        for label, mean in enumerate(means):
            apart = ratios - mean
            covariance += (belongs[:, label : label + 1] * apart).T @ apart / num
        inverse = np.linalg.inv(covariance)
        columns = []
        for share, mean in zip(shares, means):
            apart = ratios - mean
            columns.append(np.log(share) - 0.5 * np.einsum("ni,ij,nj->n", apart, inverse, apart))
        after = np.exp(log_softmax(np.stack(columns, axis=1)))
        moved = np.abs(after - belongs).max()
        belongs = after
        if moved < 1e-6:
            break
    return shares


def priors(rows, gold_shares, content_free):
    even = batch(rows)
    mean_prob = batch_mean_prob(rows)
    stated = np.maximum(gold_shares, 0.005)
    stated = stated / stated.sum()
    found = {
        "none": log_softmax(rows),
        "batch, equal": even,
        "batch, estimated": estimated(even),
        "batch-mean-prob, equal": mean_prob,
        "batch-mean-prob, estimated": estimated(mean_prob),
        "batch, given": log_softmax(rows - border(rows, stated)),
        "batch, mixture (not built)": log_softmax(rows - border(rows, mixture_shares(rows))),
    }
    if content_free is not None:
        free = log_softmax(rows - content_free)
        found["content-free, equal"] = free
        found["content-free, estimated"] = estimated(free)
    return found


def draws(rows, gold, ratio, num, rng):
    """One draw for each label in the majority: places in `rows`."""
    num_labels = rows.shape[1]
    for most in range(num_labels if ratio > 1 / num_labels else 1):
        counts = np.full(num_labels, 1 / num_labels)
        if ratio > 1 / num_labels:
            counts[:] = (1 - ratio) / (num_labels - 1)
            counts[most] = ratio
        counts = np.round(counts * num).astype(int)
        yield np.concatenate(
            [
                rng.choice(np.flatnonzero(gold == label), count, replace=False)
                for label, count in enumerate(counts)
            ]
        )


def table(arguments):
    for line in Path(arguments.scores).read_text().splitlines():
        scores = json.loads(line)
        labels = scores["labels"]
        rows = np.array(scores["logprobs"])
        gold = np.array([labels.index(label) for label in scores["gold"]])
        content_free = scores.get("content_free")
        content_free = None if content_free is None else np.array(content_free)
        for ratio in RATIOS:
            rng = np.random.default_rng(0)
            results = {}
            for _ in range(arguments.draws):
                for places in draws(rows, gold, ratio, arguments.num, rng):
                    drawn = gold[places]
                    shares = np.bincount(drawn, minlength=len(labels)) / len(drawn)
                    for name, found in priors(rows[places], shares, content_free).items():
                        best = found.argmax(axis=1)
                        right = best == drawn
                        of_label = [right[drawn == label].mean() for label in set(drawn)]
                        got = np.bincount(best, minlength=len(labels)) / len(drawn)
                        row = (right.mean(), np.mean(of_label), np.abs(got - shares).sum() / 2)
                        results.setdefault(name, []).append(row)
            for name, values in results.items():
                values = np.array(values)
                low, high = np.quantile(values, [0.025, 0.975], axis=0)
                means = values.mean(axis=0)
                rounded = lambda x: round(float(x), 4)  # noqa: E731
                print(
                    json.dumps(
                        {
                            "set": scores["set"],
                            "majority": ratio,
                            "prior": name,
                            "num": arguments.num,
                            "num_draws": len(values),
                            "accuracy": rounded(means[0]),
                            "accuracy_95": [rounded(low[0]), rounded(high[0])],
                            "balanced_accuracy": rounded(means[1]),
                            "balanced_accuracy_95": [rounded(low[1]), rounded(high[1])],
                            "share_error": rounded(means[2]),
                        }
                    )
                )


def read(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def store(arguments):
    gold = {row["id"]: row["label"] for row in read(arguments.gold)}
    found = read(Path(arguments.run) / "labels.jsonl")
    labels = sorted(found[0]["logprobs"])
    rows = [[round(row["logprobs"][label], 4) for label in labels] for row in found]
    line = {
        "set": arguments.set,
        "model": "gemma-3-270m",
        "labels": labels,
        "gold": [gold[row["id"]] for row in found],
        "logprobs": rows,
    }
    if arguments.content_free:
        calibrated = read(Path(arguments.content_free) / "labels.jsonl")[0]
        raw = next(row for row in found if row["id"] == calibrated["id"])
        offset = [raw["logprobs"][label] - calibrated["logprobs"][label] for label in labels]
        line["content_free"] = [round(value, 4) for value in offset]
    print(json.dumps(line, separators=(",", ":")))


def reference(_):
    rng = np.random.default_rng(16)
    cases = []
    for num, num_labels, shares in [
        (40, 2, [0.9, 0.1]),
        (200, 2, [0.5, 0.5]),
        (200, 2, [0.99, 0.01]),
        (6, 2, [0.7, 0.3]),
        (120, 3, [0.7, 0.2, 0.1]),
    ]:
        label = rng.choice(num_labels, num, p=shares)
        rows = log_softmax(
            np.round(1.6 * np.eye(num_labels)[label] + rng.normal(size=(num, num_labels)) + np.arange(num_labels), 3)
        )
        cases.append(
            {
                "logprobs": rows.round(6).tolist(),
                "stated": shares,
                "estimated": estimated_shares(batch(rows.round(6))).tolist(),
                "border": border(rows.round(6), shares).tolist(),
                "mean_prob": np.log(np.exp(log_softmax(rows.round(6))).mean(axis=0)).tolist(),
            }
        )
    json.dump(cases, sys.stdout)
    print()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("store")
    command.add_argument("--run", required=True)
    command.add_argument("--gold", required=True)
    command.add_argument("--set", required=True)
    command.add_argument("--content-free")
    command.set_defaults(run_command=store)
    command = commands.add_parser("table")
    command.add_argument("--scores", default=SCORES)
    command.add_argument("--draws", type=int, default=100)
    command.add_argument("--num", type=int, default=200)
    command.set_defaults(run_command=table)
    command = commands.add_parser("reference")
    command.set_defaults(run_command=reference)
    arguments = parser.parse_args()
    arguments.run_command(arguments)


if __name__ == "__main__":
    main()
