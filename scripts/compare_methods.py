#!/usr/bin/env python3
"""Compare ways of labelling on blocks of a file with gold, and print a table.

    scripts/compare_methods.py --task sentiment --data train.jsonl --out runs/compare [--num 32] [--blocks 3]

Block K is records K * NUM to (K + 1) * NUM - 1 of the data that are short enough, labelled with seed K.
Each way labels every block by `w2s label` without gold (but for few-shot-gold), `w2s eval` compares
the labels with gold, and the blocks are pooled: accuracy with its 95 % Wilson interval. A finished
run is not made again, an unfinished one is continued. Ways:

    zero-shot             the question alone, calibrated
    zero-shot-raw         the question alone, as the model answers
    few-shot-random       behind the others with random labels
    bootstrap             behind the others with their zero-shot labels
    icm                   the search; icm-raw: without calibration; icm-free: without consistency rules;
                          icm-raw-free: without both
    few-shot-gold         behind the others with their gold labels; few-shot-gold-raw: uncalibrated
"""

import argparse
import json
import math
import statistics
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RAW = ["--calibrate", "none"]
FREE = ["--consistency", "none"]
WAYS = {
    "zero-shot-raw": ["--method", "zero-shot", *RAW],
    "zero-shot": ["--method", "zero-shot"],
    "few-shot-random": ["--method", "few-shot-random"],
    "bootstrap": ["--method", "bootstrap"],
    "icm-raw-free": [*RAW, *FREE],
    "icm-raw": RAW,
    "icm-free": FREE,
    "icm": [],
    "few-shot-gold-raw": ["--method", "few-shot-gold", *RAW],
    "few-shot-gold": ["--method", "few-shot-gold"],
}


def wilson(correct, total, z=1.959964):
    """Returns the ends of the 95 % Wilson interval."""
    share, extra = correct / total, z * z / total
    middle = share + extra / 2
    half = z * math.sqrt(share * (1 - share) / total + extra / (4 * total))
    return (middle - half) / (1 + extra), (middle + half) / (1 + extra)


def mean(values, digits):
    """Returns the mean, or nothing of nothing."""
    return f"{statistics.mean(values):.{digits}f}" if values else ""


def blocks(args):
    """Writes the blocks and returns their files."""
    lines = []
    for line in args.data.read_text().splitlines():
        record = json.loads(line)
        text = "".join(v for k, v in record.items() if isinstance(v, str) and k in args.fields)
        if len(text) <= args.max_chars:
            lines.append(line + "\n")
    files = []
    for block in range(args.blocks):
        part = lines[block * args.num:(block + 1) * args.num]
        if len(part) < args.num:
            raise SystemExit(f"error: {args.data} has {len(lines)} records of at most {args.max_chars} "
                             f"characters, expected {args.blocks * args.num}")
        file = args.out / f"block-{block}.jsonl"
        if not file.exists():
            file.write_text("".join(part))
        files.append(file)
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", required=True)
    parser.add_argument("--data", type=Path, required=True, help="JSON lines with gold")
    parser.add_argument("--out", type=Path, required=True, help="folder of blocks and runs")
    parser.add_argument("--model", default=str(ROOT / "models/gemma-3-270m"))
    parser.add_argument("--ways", nargs="+", choices=WAYS, metavar="WAY", default=[
        "zero-shot", "few-shot-random", "bootstrap", "icm", "few-shot-gold"])
    parser.add_argument("--num", type=int, default=32, help="records of a block")
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--fields", nargs="+", default=["text"], help="columns whose length counts")
    parser.add_argument("--max-chars", type=int, default=10_000)
    parser.add_argument("--w2s", default=str(ROOT / "target/release/w2s"))
    parser.add_argument("options", nargs="*", help="further options of every run, after `--`")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    files = blocks(args)
    print("| labels by | accuracy, 95 % interval | by block | AUROC | U | largest share | seconds |")
    print("|---|---|---|---|---|---|---|")
    for way in args.ways:
        seen = []
        for block, file in enumerate(files):
            out = args.out / f"{way}-{block}"
            subprocess.run([args.w2s, "label", "--model", args.model, "--task", args.task, "--data",
                            file, "--out", out, "--seed", str(block), "--resume", *WAYS[way],
                            *args.options], check=True)
            subprocess.run([args.w2s, "eval", out, "--gold", file], check=True)
            read = [json.loads((out / f"{name}.json").read_text())
                    for name in ("eval", "summary", "timing")]
            seen.append(read)
        correct, total = (sum(e[key] for e, _, _ in seen) for key in ("num_correct", "num_examples"))
        low, high = wilson(correct, total)
        each = ", ".join(f"{e['num_correct'] / e['num_examples']:.2f}" for e, _, _ in seen)
        auroc = [e["auroc"] for e, _, _ in seen if e.get("auroc") is not None]
        scores = [s["score"] for _, s, _ in seen if s.get("score") is not None]
        share = statistics.mean(max(s["share"].values()) for _, s, _ in seen)
        seconds = statistics.mean(timing["work_seconds"] for _, _, timing in seen)
        print(f"| {way} | {correct / total:.1%} [{100 * low:.1f}, {100 * high:.1f}] | {each} | "
              f"{mean(auroc, 3)} | {mean(scores, 1)} | {share:.2f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
