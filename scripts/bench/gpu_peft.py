#!/usr/bin/env python3
"""LoRA training with transformers and peft on a GPU; the other side of the GPU check.

    scripts/gpu-check

runs it, if its Python has both. Rows are added to the file that --rows names, one JSON object a line,
as tests/bench/gpu does. The model has the shape in the folder and random weights in bf16; an adapter
of rank 16 on queries and values trains without dropout on random tokens, in whole steps: forward,
backward, clipping, fused AdamW. Two steps before those that count are left out.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

PART, RANK, STEPS, WARMUP = "peft", 16, 5, 2
# Name, tokens learnt of a sequence (all if None), whether blocks run again on the way back.
WORKS = [("all", None, False), ("short", 2, False), ("all, recomputed", None, True)]


def add(path, what, result, **facts):
    row = {"part": PART, "what": what, "result": result, "against": "", "ok": None, "facts": facts}
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def load(torch, transformers, peft, folder, device):
    """Returns the model with its adapter; weights are made on the device."""
    config = transformers.AutoConfig.from_pretrained(folder)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16, attn_implementation="sdpa")
    lora = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, lora_dropout=0.0, task_type="CAUSAL_LM",
                           target_modules=["q_proj", "v_proj"])
    model = peft.get_peft_model(model, lora).to(device)
    model.config.use_cache = False
    return model.train()


def measure(torch, model, args, num_learnt, end):
    """Returns the seconds of steps and the peak of the device's memory in bytes."""
    cuda = args.device.startswith("cuda")
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0, fused=True)
    generator = torch.Generator().manual_seed(0)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    times = []
    for step in range(STEPS + WARMUP):
        ids = torch.randint(3, model.config.vocab_size, (args.sequences, args.tokens),
                            generator=generator)
        labels = ids.clone()
        if num_learnt:
            labels[:, :-num_learnt] = -100
        ids, labels = ids.to(args.device), labels.to(args.device)
        if cuda:
            torch.cuda.synchronize()
        began = time.perf_counter()
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        # Reading the loss waits for the device.
        loss.item()
        if cuda:
            torch.cuda.synchronize()
        if step >= WARMUP:
            times.append(time.perf_counter() - began)
        if times and time.perf_counter() > end:
            break
    return times, torch.cuda.max_memory_allocated() if cuda else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=512, help="of a sequence")
    parser.add_argument("--seconds", type=float, default=40, help="time for all together")
    args = parser.parse_args()
    try:
        import torch
        import transformers
        import peft
    except ImportError as error:
        add(args.rows, "LoRA training", f"not run: {error}")
        return 0
    if args.device == "auto":
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    end = time.perf_counter() + args.seconds
    model = load(torch, transformers, peft, args.model, args.device)
    for name, num_learnt, recompute in WORKS:
        what = f"LoRA r {RANK} on q and v, loss on {name}"
        if time.perf_counter() > end:
            add(args.rows, what, "not run: no time is left")
            continue
        try:
            if recompute:
                model.gradient_checkpointing_enable({"use_reentrant": False})
                model.enable_input_require_grads()
            times, peak = measure(torch, model, args, num_learnt, end)
        except Exception as error:  # out of memory above all; the next may still go
            add(args.rows, what, f"failed: {str(error).splitlines()[0][:200]}")
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        seconds, tokens = statistics.median(times), args.sequences * args.tokens
        memory = "" if peak is None else f"; peak {peak / 2**30:.1f} GiB allocated"
        add(args.rows, what,
            f"{1e3 * seconds:.0f} ms a step, {tokens / seconds:.0f} tokens/s{memory}",
            work=name, seconds=seconds, tokens=tokens, peak_bytes=peak)
    return 0


if __name__ == "__main__":
    sys.exit(main())
