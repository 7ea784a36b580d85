#!/usr/bin/env python3
"""Write tests/parity/defaults.json: what transformers takes for keys that config.json lacks.

Needs transformers 5.23 (no torch): `pip install transformers==5.23.*`. For each family and key it has
the default of the configuration class and whether null is a value of the key; a key that the class
does not have is absent. `rope` is what the class makes of a file without any key of the rotation.
"""

import json
import sys
import typing
from pathlib import Path

import transformers
from transformers import CONFIG_MAPPING

FAMILIES = ["gemma3_text", "gpt2", "gpt_neox", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3"]
KEYS = [
    "activation_function", "add_cross_attention", "attention_bias", "attn_logit_softcapping",
    "bos_token_id", "eos_token_id", "final_logit_softcapping", "head_dim", "hidden_act",
    "hidden_activation", "layer_norm_eps", "layer_norm_epsilon", "layer_types",
    "max_position_embeddings", "max_window_layers", "mlp_bias", "n_inner", "n_positions",
    "num_key_value_heads", "original_max_position_embeddings", "pad_token_id",
    "query_pre_attn_scalar", "rms_norm_eps", "scale_attn_by_inverse_layer_idx",
    "scale_attn_weights", "sliding_window", "tie_word_embeddings",
    "use_bidirectional_attention", "use_parallel_residual", "use_sliding_window",
]  # fmt: skip


def main():
    out = {"transformers": transformers.__version__, "families": {}}
    for family in FAMILIES:
        cls = CONFIG_MAPPING[family]
        types = {k: t for c in reversed(cls.__mro__) for k, t in vars(c).get("__annotations__", {}).items()}
        fields = cls.__dataclass_fields__
        keys = {}
        for key in KEYS:
            if key in fields:
                nullable = type(None) in typing.get_args(types[key]) or types[key] is None
                keys[key] = {"default": fields[key].default, "nullable": nullable}
        settled = cls(num_hidden_layers=8) if family != "gpt2" else cls()
        layers = getattr(settled, "layer_types", None)
        out["families"][family] = {
            "keys": keys,
            "rope": getattr(settled, "rope_parameters", None),
            # Of a model of eight layers.
            "layer_types": layers,
        }
    text = json.dumps(out, indent=1) + "\n"
    path = Path(__file__).resolve().parent.parent / "tests/parity/defaults.json"
    if sys.argv[1:] == ["--check"]:
        sys.exit(path.read_text() != text)
    path.write_text(text)


if __name__ == "__main__":
    main()
