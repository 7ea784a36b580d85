#!/usr/bin/env python3
"""How far transformers in bf16 is from its own f32 numbers, by model: tests/parity/bf16.json.

    python3 -m venv .setup/bench
    .setup/bench/bin/pip install torch==2.11.0 transformers==5.23.0
    .setup/bench/bin/python scripts/bench/parity_bf16.py

The largest difference of a log-probability over the prompts of tests/parity, on the CPU. The GPU check
takes it for the measure of what bf16 costs.
"""

import json
from pathlib import Path

import torch
import transformers

ROOT = Path(__file__).parents[2]
PARITY = ROOT / "tests/parity"
REAL = {"smollm2-135m-instruct": "smollm2-135m-instruct.json", "gemma-3-270m": "gemma3-270m.json"}


def tiny_cases(golden):
    """Yields ids, the wanted ids at the last position with their numbers, and those of the sequence."""
    for prompt in golden["prompts"]:
        yield prompt["ids"], prompt["last_top_ids"], prompt["last_top_logprobs"], [-prompt["mean_nll"]], True


def real_cases(golden):
    for prompt in golden["prompts"]:
        yield prompt["ids"], prompt["top20_ids"], prompt["top20_logprobs"], None, False
    paragraph = golden["paragraph"]
    yield paragraph["ids"], [], [], paragraph["token_logprobs"], False


def largest_difference(folder, cases):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    worst = 0.0
    for ids, last_ids, last, sequence, mean in cases:
        with torch.inference_mode():
            logprobs = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
        found = [logprobs[-1, last_ids] - torch.tensor(last)]
        if sequence is not None:
            own = logprobs[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
            found.append((own.mean(0, keepdim=True) if mean else own) - torch.tensor(sequence))
        worst = max([worst] + [part.abs().max().item() for part in found if part.numel()])
    return worst


def main():
    found = {}
    for path in sorted(PARITY.glob("*/golden.json")):
        found[path.parent.name] = largest_difference(path.parent, tiny_cases(json.loads(path.read_text())))
    for name, file in REAL.items():
        golden = json.loads((PARITY / "real" / file).read_text())
        found[name] = largest_difference(ROOT / "models" / name, real_cases(golden))
    out = {"transformers": transformers.__version__, "torch": torch.__version__, "device": "cpu",
           "largest_difference": {name: float(f"{value:.3g}") for name, value in found.items()}}
    (PARITY / "bf16.json").write_text(json.dumps(out, indent=1) + "\n")
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
