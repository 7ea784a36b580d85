"""What the benchmarks share: the claims, their prompts, runs of w2s, and how results are written."""

import json
import os
import random
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models/smollm2-135m-instruct"
ORDERS = {"halving": ["--trees", "1"], "default": []}
NAMES = ["Ada", "Bruno", "Chen", "Dalia", "Emil", "Farah", "Goran", "Hana"]
THINGS = ["marbles", "stamps", "shells", "coins", "pencils", "apples", "beads", "cards"]


def claims(num):
    """Returns num claims with their labels; as a demonstration each has 40 to 42 tokens of SmolLM2."""
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
    """Returns for each claim the text of all others, in the order given, and its own question."""
    shown = [question(r) + ("True" if r["label"] else "False") + "\n\n" for r in rows]
    # The space before the label is the label's: what is scored after is `is`.
    return ["".join(shown[:i] + shown[i + 1:]) + question(r).rstrip() for i, r in enumerate(rows)]


class Run(NamedTuple):
    seconds: float
    tokens: int
    records: list


def quietly(command):
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def w2s(folder, rows, arguments, dtype="f32", run=quietly):
    """Returns w2s's own clock, without opening the model, tokens computed and records of one run."""
    with tempfile.TemporaryDirectory(dir=ROOT / "target") as place:
        data, out = Path(place) / "claims.jsonl", Path(place) / "run"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        run([ROOT / "target/release/w2s", "label", "--model", folder, "--task", "truthfulqa",
             "--data", data, "--method", "few-shot", "--demonstrations", data, "--calibrate", "none",
             "--device", "cpu", "--dtype", dtype, "--out", out, *arguments])
        timing = json.loads((out / "timing.json").read_text())
        summary = json.loads((out / "summary.json").read_text())
        records = [json.loads(line) for line in (out / "labels.jsonl").read_text().splitlines()]
    return Run(timing["work_seconds"], summary["tokens_computed"], records)


def num_threads():
    """Returns the threads that OpenMP takes in this process and in those it starts."""
    return int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))


def machine(folder, *versions):
    """Returns the line that says what a table was measured on."""
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo")
                if line.startswith("model name")), "unknown")
    return f"{cpu}; {num_threads()} threads; {', '.join(versions)}; {folder.name}"


def has_bf16():
    """Returns whether the processor multiplies bf16 by instructions of its own, as w2s asks it."""
    return "avx512_bf16" in Path("/proc/cpuinfo").read_text()


def spread(values, digits=2):
    """Returns the median of values and, in brackets, their range."""
    return (f"{statistics.median(values):.{digits}f} "
            f"({min(values):.{digits}f} to {max(values):.{digits}f})")


def compare(other, folder, sizes, rounds, seconds, bars=None, dtype="f32"):
    """Prints the table of leave-one-out scoring: w2s and `other`, in turns.

    `seconds` takes the prompts and returns the other side's seconds, its tokens, and the share of
    them that was timed.
    """
    bars = bars or {name: {} for name in ORDERS}
    print(f"| N | order | w2s s | {other} s | timed | ratio | bar | of tokens | share of it |")
    print("|---|---|---|---|---|---|---|---|---|")
    for size in sizes:
        rows = claims(size)
        texts = prompts(rows)
        seen = {name: [] for name in ORDERS}
        for _ in range(rounds):
            theirs, tokens, timed = seconds(texts)
            for name, arguments in ORDERS.items():
                mine = w2s(folder, rows, arguments, dtype)
                seen[name].append(
                    (theirs / mine.seconds, mine.seconds, theirs, tokens / mine.tokens))
        for name, found in seen.items():
            ratio, mine, theirs, ideal = (statistics.median(x) for x in zip(*found))
            print(f"| {size} | {name} | {mine:.1f} | {theirs:.1f} | {timed:.0%} | "
                  f"{spread([f[0] for f in found], 1)} | {bars[name].get(size, '')} | "
                  f"{ideal:.1f} | {ratio / ideal:.2f} |", flush=True)
