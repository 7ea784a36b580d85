#!/usr/bin/env python3
"""Prefill and batched decode: w2s against transformers, in one run.

    python3 -m venv .setup/bench
    .setup/bench/bin/pip install -r scripts/bench/requirements.txt
    scripts/setup
    .setup/bench/bin/python scripts/bench/prefill_decode.py [--rounds 7]

Both sides keep the model in memory, get the same token ids, and take turns; the ratio of each round
is formed from neighbours. What they answer is compared too.

Prefill: one prompt of random tokens, keys and values kept, head at the last position only. `of the
machine's rate` compares its floating-point operations a second (linear maps, causal pairs of
attention, head at one position) with those of plain matrix products at the shapes of the model's MLP
with 512 rows, by w2s's libtorch, in the same round.

Decode: prompts of 64 tokens, 32 new ones each, greedy, no end token. A step's time is that of the
whole call less that of a call for one new token, by the 31 steps between; `whole call` has the
prompts in it.
"""

import argparse
import json
import random
import re
import statistics
import subprocess
import time
from pathlib import Path

import torch
import transformers

from common import MODEL, ROOT, machine, spread

PROMPT_TOKENS, NEW_TOKENS, MATMUL_ROWS = 64, 32, 512
PREFILL_BAR, DECODE_BAR = 1.05, 1.3


class W2s:
    def __init__(self, folder):
        build = ["cargo", "bench", "--no-run", "--bench", "serve", "--message-format", "json"]
        built = subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
        messages = map(json.loads, built.splitlines())
        program = next(m["executable"] for m in messages
                       if m.get("executable") and m["target"]["name"] == "serve")
        self.process = subprocess.Popen(
            [program, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.threads = json.loads(self.process.stdout.readline())["threads"]

    def ask(self, work, **request):
        self.process.stdin.write(json.dumps({"work": work, **request}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def prefill(self, ids):
        answer = self.ask("prefill", ids=ids)
        return answer["seconds"], (answer["top"], answer["logprob"])

    def generate(self, prompts, new):
        answer = self.ask("generate", prompts=prompts, new=new)
        return answer["seconds"], answer["ids"]


class Transformers:
    def __init__(self, folder):
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa")
        self.model.eval()
        # Every text gets as many tokens as were asked for.
        self.model.generation_config.eos_token_id = None

    def prefill(self, ids):
        began = time.perf_counter()
        with torch.inference_mode():
            out = self.model(torch.tensor([ids]), logits_to_keep=1)
            logprob, top = torch.log_softmax(out.logits[0, -1].float(), -1).max(-1)
            answer = top.item(), logprob.item()
        return time.perf_counter() - began, answer

    def generate(self, prompts, new):
        began = time.perf_counter()
        batch = self.tokenizer(prompts, return_tensors="pt")
        with torch.inference_mode():
            out = self.model.generate(**batch, max_new_tokens=new, do_sample=False)
        ids = out[:, batch["input_ids"].shape[1]:].tolist()
        return time.perf_counter() - began, ids

    def prefill_flops(self, num_tokens):
        config = self.model.config
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        queries, keys = config.num_attention_heads * head, config.num_key_value_heads * head
        weights = config.hidden_size * (2 * queries + 2 * keys + 3 * config.intermediate_size)
        pairs = num_tokens * (num_tokens + 1) // 2
        layer = 2 * weights * num_tokens + 4 * queries * pairs
        return config.num_hidden_layers * layer + 2 * config.vocab_size * config.hidden_size


def random_prompts(tokenizer, num, rng):
    """Returns texts of random words, each word one token."""
    words = [i for piece, i in sorted(tokenizer.get_vocab().items())
             if re.fullmatch("[Ġ▁][a-z]{2,}", piece)]
    texts = []
    while len(texts) < num:
        text = tokenizer.decode(rng.choices(words, k=PROMPT_TOKENS))
        if len(tokenizer(text)["input_ids"]) == PROMPT_TOKENS:
            texts.append(text)
    return texts


def turns(sides, number, work):
    """Returns what each side answers, beginning with another one each round."""
    order = list(sides) if number % 2 else list(reversed(sides))
    answers = {name: work(sides[name]) for name in order}
    return answers["w2s"], answers["transformers"]


def prefill_row(sides, num_tokens, rounds, rng):
    flops = sides["transformers"].prefill_flops(num_tokens)
    vocab = sides["transformers"].model.config.vocab_size
    ratios, times, shares, furthest = [], [], [], 0.0
    for number in range(rounds + 1):
        ids = rng.choices(range(vocab), k=num_tokens)
        (mine, ours), (theirs, other) = turns(sides, number, lambda side: side.prefill(ids))
        rate = sides["w2s"].ask("matmul", rows=MATMUL_ROWS)["gflops"] * 1e9
        assert ours[0] == other[0], f"most likely token: {ours} and {other}"
        furthest = max(furthest, abs(ours[1] - other[1]))
        # The first round warms up.
        if number:
            ratios.append(theirs / mine)
            times.append((mine, theirs))
            shares.append((flops / mine / rate, flops / theirs / rate))
    mine, theirs = (statistics.median(x) for x in zip(*times))
    share, their_share = (statistics.median(x) for x in zip(*shares))
    print(f"| prefill {num_tokens} | {1e3 * mine:.0f} ms | {1e3 * theirs:.0f} ms | {spread(ratios)} | "
          f"{PREFILL_BAR} | {share:.0%} | {their_share:.0%} | log-probabilities within "
          f"{furthest:.0e} |", flush=True)


def decode_rows(sides, num_prompts, rounds, rng):
    prompts = random_prompts(sides["transformers"].tokenizer, num_prompts, rng)
    steps, calls, same = [], [], 0
    for number in range(rounds + 1):
        (mine, ours), (theirs, other) = turns(
            sides, number, lambda side: side.generate(prompts, NEW_TOKENS))
        (mine_one, _), (theirs_one, _) = turns(
            sides, number, lambda side: side.generate(prompts, 1))
        same = sum(a == b for a, b in zip(ours, other))
        if number:
            calls.append((mine, theirs))
            count = NEW_TOKENS - 1
            steps.append(((mine - mine_one) / count, (theirs - theirs_one) / count))
    for name, pairs, bar in [("decode step", steps, DECODE_BAR), ("whole call", calls, "")]:
        mine, theirs = (1e3 * statistics.median(x) for x in zip(*pairs))
        print(f"| {name}, {num_prompts} sequences | {mine:.1f} ms | {theirs:.1f} ms | "
              f"{spread([b / a for a, b in pairs])} | {bar} | | | "
              f"{same} of {num_prompts} texts the same |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--prefill", type=int, nargs="*", default=[512, 2048], metavar="TOKENS")
    parser.add_argument("--decode", type=int, nargs="*", default=[8, 32], metavar="SEQUENCES")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    sides = {"w2s": W2s(args.model), "transformers": Transformers(args.model)}
    if sides["w2s"].threads != torch.get_num_threads():
        raise SystemExit(f"{sides['w2s'].threads} threads against {torch.get_num_threads()}")
    rng = random.Random(0)
    print(machine(args.model, f"torch {torch.__version__}", f"transformers {transformers.__version__}"))
    rates = [sides["w2s"].ask("matmul", rows=MATMUL_ROWS)["gflops"] for _ in range(args.rounds)]
    print(f"machine's rate of matrix products: {spread(rates, 0)} GFLOP/s")
    print("| work | w2s | transformers | ratio | bar | of the machine's rate | theirs | check |")
    print("|---|---|---|---|---|---|---|---|")
    for num_tokens in args.prefill:
        prefill_row(sides, num_tokens, args.rounds, rng)
    for num_prompts in args.decode:
        decode_rows(sides, num_prompts, args.rounds, rng)


if __name__ == "__main__":
    main()
