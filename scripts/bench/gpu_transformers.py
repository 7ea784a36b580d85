#!/usr/bin/env python3
"""Leave-one-out scoring with transformers on a GPU, full prompts; the other side of the GPU check.

    scripts/gpu-check

runs it, if its Python has transformers. Rows are added to the file that --rows names, one JSON object
a line, as tests/bench/gpu does. A model folder without weights gets random ones: speed is the same.
Prompts run in batches of 8 and of 64, padded, with the head at the last position only; where that takes
long, the first batches are timed and multiplied by the tokens of all.
"""

import argparse
import json
import sys
import time
from pathlib import Path

PART = "transformers"


def add(path, what, result, **facts):
    row = {"part": PART, "what": what, "result": result, "against": "", "ok": None, "facts": facts}
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def load(torch, transformers, folder, dtype, device):
    if (folder / "model.safetensors").exists():
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation="sdpa")
    else:
        config = transformers.AutoConfig.from_pretrained(folder)
        model = transformers.AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation="sdpa")
    return model.to(device).eval()


def batches(ids, size):
    """Yields padded ids and mask of the prompts, `size` at a time; padding is on the left."""
    for start in range(0, len(ids), size):
        part = ids[start:start + size]
        longest = max(map(len, part))
        yield ([[0] * (longest - len(row)) + row for row in part],
               [[0] * (longest - len(row)) + [1] * len(row) for row in part])


def measure(torch, model, ids, size, device, seconds):
    """Returns seconds for all prompts and the share of their tokens that was timed."""
    def run(tokens, mask):
        out = model(input_ids=torch.tensor(tokens, device=device),
                    attention_mask=torch.tensor(mask, device=device), logits_to_keep=1, use_cache=False)
        # Reading the answer waits for the device.
        torch.log_softmax(out.logits[:, -1].float(), -1).amax(-1).tolist()

    total = sum(map(len, ids))
    done = spent = 0
    with torch.inference_mode():
        for index, (tokens, mask) in enumerate(batches(ids, size)):
            if index == 0:
                run(tokens, mask)
            began = time.perf_counter()
            run(tokens, mask)
            spent += time.perf_counter() - began
            done += sum(map(sum, mask))
            if spent > seconds:
                break
    return spent * total / done, done / total


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, action="append", required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=60, help="time for all measurements together")
    args = parser.parse_args()
    try:
        import torch
        import transformers
    except ImportError as error:
        add(args.rows, "leave-one-out, full prompts", f"not run: {error}")
        return 0
    if args.device == "auto":
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    end = time.perf_counter() + args.seconds
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(args.model / "tokenizer.json"))
    # A prompts file that is missing belongs to a part that was stopped before it.
    texts = {p: json.loads(p.read_text()) for p in args.prompts if p.exists()}
    ids = {p: tokenizer(prompts)["input_ids"] for p, prompts in texts.items()}
    todo = [(name, path, size) for name in ("bfloat16", "float32") for path in ids for size in (8, 64)]
    model = loaded = None
    for index, (name, path, size) in enumerate(todo):
        short = {"bfloat16": "bf16", "float32": "f32"}[name]
        rows = ids[path]
        what = f"leave-one-out N = {len(rows)}, full prompts, batch {size}, {short}"
        left = end - time.perf_counter()
        if left <= 0:
            add(args.rows, what, "not run: no time is left")
            continue
        if size > len(rows):
            continue
        try:
            if loaded != name:
                model = None
                model = load(torch, transformers, args.model, getattr(torch, name), args.device)
                loaded = name
            # What is left is shared by what is left to do; half goes to the batch that is not counted.
            seconds, share = measure(
                torch, model, rows, size, args.device, left / (len(todo) - index) / 2)
        except Exception as error:  # out of memory above all; the next may still go
            add(args.rows, what, f"failed: {str(error).splitlines()[0][:200]}")
            torch.cuda.empty_cache()
            continue
        tokens = sum(map(len, rows))
        add(args.rows, what, f"{seconds:.2f} s, {tokens / seconds:.0f} tokens/s, {share:.0%} timed",
            n=len(rows), dtype=short, batch=size, seconds=seconds, tokens=tokens,
            timed=f"{share:.0%} timed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
