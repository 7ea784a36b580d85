#!/usr/bin/env python3
"""Peak resident memory while scoring N claims leave-one-out: w2s and transformers.

    python3 -m venv .setup/bench
    .setup/bench/bin/pip install -r scripts/bench/requirements.txt
    cargo build --release && scripts/setup
    .setup/bench/bin/python scripts/bench/peak_memory.py [--size 64]

Each side is a fresh process, and its high-water mark is the kernel's (VmHWM). transformers runs full
prompts with the head at the last position: one batch of 8, as the time is measured in
leave_one_out.py (more batches of that size take no more memory), and one prompt alone, which is the
least it can do. `files` is the part in mapped files at the peak (libraries, and weights that are
mapped and not read), which the kernel may take back; `own` is the rest.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from common import MODEL, ORDERS, claims, machine, prompts, w2s

BAR = 0.7
POLL_SECONDS = 0.005
KIB_PER_MIB = 1024


def peak(command):
    """Runs a command and returns its peak resident memory in MiB: all, files, own."""
    mark, highest, parts = 0, 0, (0, 0)
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            fields = dict(line.split(":", 1) for line in status.splitlines())
            # A process that is about to end has no memory any more.
            if "VmHWM" in fields:
                mark, now, files, own = (
                    int(fields[key].split()[0]) // KIB_PER_MIB
                    for key in ("VmHWM", "VmRSS", "RssFile", "RssAnon"))
                if now > highest:
                    highest, parts = now, (files, own)
            time.sleep(POLL_SECONDS)
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with {process.returncode}")
    return mark, *parts


def child(folder, size, batch):
    """Scores one batch with transformers, in this process."""
    from leave_one_out import Transformers

    Transformers(folder, "f32").in_prompts(prompts(claims(size)), 1, batch)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--child", type=int, metavar="BATCH", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.model, args.size, args.child)
        return
    print(machine(args.model, f"N = {args.size}"))
    found = {}
    for name, arguments in ORDERS.items():
        w2s(args.model, claims(args.size), arguments,
            run=lambda command: found.update({f"w2s, {name}": peak(command)}))
    again = [sys.executable, __file__, "--model", args.model, "--size", str(args.size)]
    for batch in (8, 1):
        found[f"transformers, batch of {batch}"] = peak([*again, "--child", str(batch)])
    base = found["transformers, batch of 8"][0]
    alone = found["transformers, batch of 1"][0]
    print("| | peak MiB | files | own | of transformers, batch of 8 | of one prompt alone | bar |")
    print("|---|---|---|---|---|---|---|")
    for name, (most, files, own) in found.items():
        bar = BAR if name.startswith("w2s") else ""
        print(f"| {name} | {most:,} | {files:,} | {own:,} | {most / base:.2f} | {most / alone:.2f} | "
              f"{bar} |")


if __name__ == "__main__":
    main()
