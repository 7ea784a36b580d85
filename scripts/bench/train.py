#!/usr/bin/env python3
"""LoRA training: w2s against transformers + peft, in one run.

    python3 -m venv .setup/bench
    .setup/bench/bin/pip install -r scripts/bench/requirements.txt
    scripts/setup
    .setup/bench/bin/python scripts/bench/train.py [--rounds 7]

Each side is a process of its own that holds the model, gets the same sequences of random tokens and
the same adapter (rank 16 on queries and values, no dropout), and makes whole steps in turns: forward,
backward, clipping, AdamW. The ratio of each round is formed from neighbours; losses and norms of
gradients are compared at every step. Three works:

short  4 sequences of 256 tokens of which the last two, a label and an end token, are learnt
all    the same with all tokens learnt
tree   5 variants of one question that begin alike, the last two tokens of each learnt; w2s runs
       the shared part once, and `of tokens` is how many fewer tokens that are

`of the machine's rate` compares the floating-point operations that a step needs, by its time, with
plain matrix products at the shapes of the model's MLP with 512 rows, by w2s's libtorch, in the same
round. Needed are two operations for each weight and token on the way there and two on the way back
(to the inputs only: weights are frozen), save at the inputs of the first block; six for each weight of
the adapter; three times the causal pairs of attention; in the last block past keys and values, and in
the head, only the positions that are learnt. Shared tokens count once, for both sides. `peak` is the
kernel's high-water mark of resident memory (VmHWM), opening the model included.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import peft
import torch
import transformers

from common import MODEL, ROOT, machine, spread

RANK, LR, MATMUL_ROWS = 16, 1e-4, 512
NUM_TOKENS, NUM_LEARNT = 256, 2
BARS = {"short": 1.5, "all": 1.15}
TREE_BAR, PEAK_BAR = 0.85, 0.7


class Side:
    """A process that answers one JSON line for each JSON line."""

    def __init__(self, *command):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.begin = json.loads(self.process.stdout.readline())

    def ask(self, work, **request):
        self.process.stdin.write(json.dumps({"work": work, **request}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self):
        """Ends the process and returns its peak memory in MiB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        self.process.communicate()
        return peak / 1024


def program():
    """Builds w2s's side and returns its path."""
    build = ["cargo", "bench", "--no-run", "--bench", "learn", "--message-format", "json"]
    built = subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = map(json.loads, built.splitlines())
    return next(m["executable"] for m in messages
                if m.get("executable") and m["target"]["name"] == "learn")


def child(folder, job):
    """Answers as w2s's side does, with peft."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa")
    model = peft.PeftModel.from_pretrained(model, job["adapter"], is_trainable=True)
    model.config.use_cache = False
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=job["lr"], weight_decay=0.0, fused=True)

    def step(places):
        rows = [job["sequences"][place] for place in places]
        ids = torch.tensor([row["ids"] for row in rows])
        labels = ids.clone()
        for row, own in zip(rows, labels):
            own[:row["begin"]] = -100
        optimizer.zero_grad()
        # All are of one length, so no mask is needed.
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        return {"loss": loss.item(), "grad_norm": norm.item()}

    print(json.dumps({"threads": torch.get_num_threads()}), flush=True)
    for line in sys.stdin:
        places = json.loads(line)["items"]
        began = time.perf_counter()
        answer = step(places)
        print(json.dumps({"seconds": time.perf_counter() - began, **answer}), flush=True)


def new_adapter(model, folder):
    """Writes an adapter with random tensors, so that it changes what the model says from the start."""
    torch.manual_seed(0)
    base = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    config = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, lora_dropout=0.0, task_type="CAUSAL_LM",
                             target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    peft.get_peft_model(base, config).save_pretrained(folder)


def sequences(work, num_steps, shared, vocab, rng):
    """Returns the sequences of a work and how many a step has."""
    some = lambda num: rng.choices(range(vocab), k=num)
    begin = 1 if work == "all" else NUM_TOKENS - NUM_LEARNT
    rows, size = [], 5 if work == "tree" else 4
    for number in range(num_steps):
        start = some(shared)
        for variant in range(size):
            ids = start + some(NUM_TOKENS - shared) if work == "tree" else some(NUM_TOKENS)
            question = str(number) if work == "tree" else f"{number}-{variant}"
            rows.append({"question": question, "ids": ids, "begin": begin})
    return rows, size


def needed_flops(config, rows):
    """Returns the operations a step on `rows` needs, beginnings that they share counted once."""
    nodes, learnt = {}, set()
    for row in rows:
        for end in range(1, len(row["ids"])):
            node = row["question"], *row["ids"][:end]
            nodes[node] = end
            if end >= row["begin"]:
                learnt.add(node)
    num, pairs = len(nodes), sum(nodes.values())
    num_learnt, learnt_pairs = len(learnt), sum(nodes[node] for node in learnt)
    width, layers = config.hidden_size, config.num_hidden_layers
    head = getattr(config, "head_dim", None) or width // config.num_attention_heads
    queries, keys = config.num_attention_heads * head, config.num_key_value_heads * head
    inner = width * (2 * queries + 3 * config.intermediate_size)
    there = 2 * (inner + 2 * width * keys)
    block = 2 * there * num + 12 * queries * pairs
    last = 4 * (inner * num_learnt + 2 * width * keys * num) + 12 * queries * learnt_pairs
    first_inputs = 2 * width * (queries + 2 * keys) * num
    adapter = 6 * RANK * (2 * width + queries + keys) * num * layers
    return ((layers - 1) * block + last - first_inputs + adapter
            + 4 * config.vocab_size * width * num_learnt)


def measure(work, args, model_config, adapter, mine, folder, rng):
    """Returns the rounds of a work: seconds of both, rate, tokens, losses; and the peaks."""
    rows, size = sequences(work, args.rounds + 1, args.shared, model_config.vocab_size, rng)
    job = folder / f"{work}.json"
    job.write_text(json.dumps(
        {"adapter": str(adapter), "batch_size": size, "lr": LR, "sequences": rows}))
    w2s = Side(mine, args.model, job)
    other = Side(sys.executable, __file__, "--model", args.model, "--child", job)
    if w2s.begin["threads"] != other.begin["threads"]:
        raise SystemExit(f"{w2s.begin['threads']} threads against {other.begin['threads']}")
    rounds, furthest = [], 0.0
    for number, places in enumerate(w2s.begin["batches"]):
        turns = [lambda: w2s.ask("step"), lambda: other.ask("step", items=places)]
        if number % 2:
            ours, theirs = (turn() for turn in turns)
        else:
            theirs, ours = (turn() for turn in reversed(turns))
        rate = w2s.ask("matmul", rows=MATMUL_ROWS)["gflops"] * 1e9
        for what in ("loss", "grad_norm"):
            furthest = max(furthest, abs(ours[what] / theirs[what] - 1))
        # The first round warms up.
        if number:
            flops = needed_flops(model_config, [rows[place] for place in places])
            of_tokens = size * (NUM_TOKENS - 1) / ours["tokens"]
            rounds.append((ours["seconds"], theirs["seconds"], flops / rate, of_tokens))
    return rounds, furthest, (w2s.end(), other.end()), ours["loss"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--works", nargs="*", choices=["short", "all", "tree"],
                        default=["short", "all", "tree"])
    parser.add_argument("--shared", type=int, default=192, metavar="TOKENS",
                        help="tokens that the variants of a question share")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.model, json.loads(args.child.read_text()))
        return
    mine = program()
    config = transformers.AutoConfig.from_pretrained(args.model)
    print(machine(args.model, f"torch {torch.__version__}", f"transformers {transformers.__version__}",
                  f"peft {peft.__version__}"))
    print("| work | w2s | peft | ratio | bar | of tokens | of the machine's rate | theirs | "
          "peak MiB | theirs | share | check |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    rng, medians = random.Random(0), {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        new_adapter(args.model, folder / "adapter")
        for work in args.works:
            rounds, furthest, (peak, their_peak), loss = measure(
                work, args, config, folder / "adapter", mine, folder, rng)
            ratios = [theirs / ours for ours, theirs, _, _ in rounds]
            medians[work] = statistics.median(ratios)
            ours, theirs, of_tokens = (statistics.median(r[i] for r in rounds) for i in (0, 1, 3))
            share, their_share = (
                statistics.median(r[2] / r[i] for r in rounds) for i in (0, 1))
            bar = BARS.get(work, "")
            if work == "tree" and "short" in medians:
                bar = f"{TREE_BAR * of_tokens * medians['short']:.2f}"
            print(f"| {work} | {1e3 * ours:.0f} ms | {1e3 * theirs:.0f} ms | {spread(ratios)} | {bar} | "
                  f"{of_tokens:.2f} | {share:.0%} | {their_share:.0%} | {peak:,.0f} | "
                  f"{their_peak:,.0f} | {peak / their_peak:.2f} | last loss {loss:.4f}; losses and "
                  f"norms of gradients within {furthest:.0e} |", flush=True)
    if {"short", "tree"} <= medians.keys():
        share = medians["tree"] / medians["short"] / of_tokens
        print(f"tree: {share:.2f} of the ratio of tokens on top of short (bar {TREE_BAR})")


if __name__ == "__main__":
    main()
