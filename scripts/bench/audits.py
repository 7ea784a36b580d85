#!/usr/bin/env python3
"""Labels of real runs with whether each is right, for measuring what audits of them come to.

    scripts/bench/audits.py store --run RUN --gold FILE --set NAME >> data/measured/audit-labels.jsonl
    COVERAGE_DRAWS=1000 cargo test --test it -- --ignored audits_of_public_sets

`store` takes a run of `w2s label` and its gold (JSON lines with id and label) and prints one JSON line
without any text: the probability of each label, the most confident first, and whether it is right. The
test draws audits with the program's own arithmetic and writes data/measured/audits.txt.
"""

import argparse
import json
import math
import sys
from pathlib import Path


def lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines() if line.strip()]


def store(arguments):
    run = Path(arguments.run)
    manifest = json.loads((run / "manifest.json").read_text())
    records = lines(run / "labels.jsonl")
    gold = {str(row["id"]): row["label"] for row in lines(arguments.gold)}
    names = list(records[0]["logprobs"])
    records.sort(key=lambda record: -record["margin"])
    probabilities, right = [], []
    for record in records:
        truth = gold[record["id"]]
        truth = names[truth] if isinstance(truth, int) else truth
        own = record["logprobs"][record["label"]]
        total = sum(math.exp(logprob - own) for logprob in record["logprobs"].values())
        probabilities.append(round(1 / total, 4))
        right.append(int(truth == record["label"]))
    print(json.dumps({
        "set": arguments.set, "method": manifest["settings"].get("method", manifest["command"]),
        "model": Path(manifest["settings"]["model"]).name, "num_labels": len(names),
        "probabilities": probabilities, "right": right,
    }, separators=(",", ":")))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("store")
    one.add_argument("--run", required=True)
    one.add_argument("--gold", required=True)
    one.add_argument("--set", required=True)
    one.set_defaults(run_command=store)
    arguments = parser.parse_args()
    arguments.run_command(arguments)


if __name__ == "__main__":
    sys.exit(main())
