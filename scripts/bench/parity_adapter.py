"""Write what transformers gives for a model with a PEFT adapter added to its weights.

    python scripts/bench/parity_adapter.py tests/parity/llama tests/parity/llama/adapter-token

writes ADAPTER/golden.json: of each prompt in MODEL/golden.json the mean negative log-likelihood and
the 20 likeliest next tokens, in float32 on the CPU. The adapter is added by its definition,
W + alpha / r * B A, so that peft itself is not needed.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file


def main() -> None:
    """Add the adapter, run the prompts, write the numbers."""
    model_folder, adapter_folder = map(Path, sys.argv[1:3])
    config = json.loads((adapter_folder / "adapter_config.json").read_text())
    tensors = load_file(adapter_folder / "adapter_model.safetensors")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        model_folder, attn_implementation="eager", dtype=torch.float32
    )
    scale = config["lora_alpha"] / config["r"]
    with torch.no_grad():
        for name in [name for name in tensors if ".lora_A." in name]:
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            up = tensors[name.replace(".lora_A.", ".lora_B.")]
            model.get_submodule(module).weight += scale * up @ tensors[name]
    prompts = []
    for prompt in json.loads((model_folder / "golden.json").read_text())["prompts"]:
        ids = torch.tensor([prompt["ids"]])
        with torch.no_grad():
            logprobs = model(ids).logits[0].log_softmax(-1)
        top = logprobs[-1].topk(20)
        nll = -logprobs[:-1].gather(1, ids[0, 1:, None]).mean()
        prompts.append(
            {
                "ids": prompt["ids"],
                "mean_nll": nll.item(),
                "last_top_ids": top.indices.tolist(),
                "last_top_logprobs": top.values.tolist(),
            }
        )
    golden = {
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "prompts": prompts,
    }
    (adapter_folder / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
