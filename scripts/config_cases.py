#!/usr/bin/env python3
"""Write tests/parity/config_cases.json: configurations and what transformers makes of them.

Needs transformers 5.23 (no torch): `pip install transformers==5.23.*`. The configurations are drawn
with a fixed seed from keys that files have in old and new places, present, absent and null; the
values are those of the configuration class, and where the modelling code decides (the rotated share
of a head, whether a bias or a window is used) that code's rule is written out below. `null` stands
for a configuration that transformers refuses, or whose model fails.
"""

import copy
import json
import logging
import random
import sys
from pathlib import Path

import transformers
from transformers import CONFIG_MAPPING

logging.disable(logging.CRITICAL)
SIZES = {"vocab_size": 384, "hidden_size": 512, "intermediate_size": 160, "num_hidden_layers": 7, "num_attention_heads": 32}  # fmt: skip
GPT2 = {"vocab_size": 384, "n_embd": 64, "n_layer": 7, "n_head": 4}
ROPES = [
    {}, {"rope_type": "default"}, {"rope_theta": 500000.0, "rope_type": "default"},
    {"type": "linear", "factor": 4.0}, {"rope_type": "linear", "factor": 8.0},
    {"rope_type": "linear", "factor": 8.0, "rope_theta": 7000.0}, {"rope_type": "linear"},
    {"rope_type": "default", "type": "linear", "factor": 2.0},
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64},
    {"type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 500000.0},
    {"rope_type": "llama3", "factor": 8.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64},
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
    {"type": "yarn", "factor": 4.0}, {"type": "dynamic", "factor": 2.0}, {"rope_type": None},
    {"rope_theta": None}, {"partial_rotary_factor": 0.5}, {"partial_rotary_factor": 0.5, "rope_type": "linear", "factor": 2.0},
    {"rope_type": "nonsense"},
]  # fmt: skip
NESTED = ["full_attention", "sliding_attention"]
MAYBE = {
    "rope_theta": [None, 10000, 20000.0, 1000000.0],
    "rope_local_base_freq": [5000.0, None],
    "rotary_emb_base": [20000, None],
    "rotary_pct": [0.5, 1.0, None],
    "partial_rotary_factor": [0.5, 1.0, None],
    "original_max_position_embeddings": [32],
    "attention_bias": [True, False],
    "mlp_bias": [True, False],
    "tie_word_embeddings": [True, False],
    "rms_norm_eps": [1e-5, None],
    "layer_norm_eps": [1e-6],
    "layer_norm_epsilon": [1e-6],
    "hidden_act": ["gelu", "silu", "relu", None],
    "hidden_activation": ["gelu", "gelu_pytorch_tanh"],
    "activation_function": ["gelu", "relu"],
    "num_key_value_heads": [8, None],
    "head_dim": [16, None],
    "sliding_window": [16, None],
    "use_sliding_window": [True, False],
    "max_window_layers": [2, 5],
    "sliding_window_pattern": [3, None],
    "_sliding_window_pattern": [2],
    "layer_types": [["sliding_attention", "full_attention"] * 3 + ["full_attention"], ["full_attention"] * 7, None],
    "query_pre_attn_scalar": [32],
    "max_position_embeddings": [512, None],
    "n_positions": [256],
    "n_inner": [100, None],
    "use_parallel_residual": [False],
    "num_hidden_layers": [3],
}  # fmt: skip


def rope(params, family, head_dim):
    """The rotation that a layer computes: base, rotated components, kind and its numbers."""
    kind, share = params["rope_type"], params.get("partial_rotary_factor", 1.0)
    if kind not in ("default", "linear", "llama3"):
        return "unsupported"
    whole = int(head_dim * share)
    if family not in ("phi3", "gpt_neox"):
        # The default kind rotates whole heads; the others fail on shapes if they do not.
        if kind != "default" and whole != head_dim:
            raise ValueError("shapes")
        whole = head_dim
    keys = {"linear": ["factor"], "llama3": ["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"]}
    return {"theta": params["rope_theta"] + 0.0, "rotary_dim": whole, "kind": kind, **{k: params[k] + 0.0 for k in keys.get(kind, [])}}


def settled(family, raw):
    config = CONFIG_MAPPING[family].from_dict(copy.deepcopy(raw))
    if family == "gpt2":
        return {
            "layers": [[None, None]] * config.n_layer, "ropes": [], "eps": config.layer_norm_epsilon, "tie": config.tie_word_embeddings,
            "activation": config.activation_function, "heads": config.n_head, "kv_heads": config.n_head, "head_dim": config.n_embd // config.n_head,
            "wide": config.n_inner or 4 * config.n_embd, "positions": config.n_positions, "qkv_bias": True, "o_bias": True, "mlp_bias": True,
        }  # fmt: skip
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kinds, n = getattr(config, "layer_types", None), config.num_hidden_layers
    windows = {"llama": [None] * n, "olmo2": [None] * n, "gpt_neox": [None] * n}.get(family)
    window = getattr(config, "sliding_window", None)
    if family in ("mistral", "phi3"):
        windows = [window] * n
    elif windows is None:
        windows = [window if kind == "sliding_attention" else None for kind in kinds]
        # The mask of sliding layers needs a window, whichever family.
        if "sliding_attention" in kinds and window is None and family == "gemma3_text":
            raise ValueError("no window")
    # Reading the parameters a second time lays a value outside over that inside (llama3 only).
    config.standardize_rope_params()
    if family == "gemma3_text":
        # `None`: no layer of the kind.
        ropes = [rope(config.rope_parameters[kind], family, head_dim) if kind in kinds else None for kind in NESTED]
        layers = [[w, NESTED.index(kind)] for w, kind in zip(windows, kinds)]
    else:
        ropes, layers = [rope(config.rope_parameters, family, head_dim)], [[w, 0] for w in windows]
    if family == "gpt_neox":
        head_dim = config.hidden_size // config.num_attention_heads
    bias = {"mistral": False, "phi3": False, "qwen2": False}.get(family)
    bias = config.attention_bias if bias is None else bias
    return {
        "layers": layers, "ropes": ropes, "eps": config.layer_norm_eps if family == "gpt_neox" else config.rms_norm_eps,
        "tie": config.tie_word_embeddings, "activation": config.hidden_activation if family == "gemma3_text" else config.hidden_act,
        "heads": config.num_attention_heads, "kv_heads": config.num_attention_heads if family == "gpt_neox" else config.num_key_value_heads, "head_dim": head_dim,
        "wide": config.intermediate_size, "positions": config.max_position_embeddings, "qkv_bias": bias or family == "qwen2", "o_bias": bias,
        "mlp_bias": family == "gpt_neox" or (family == "llama" and config.mlp_bias),
        "scale": (config.query_pre_attn_scalar if family == "gemma3_text" else head_dim) ** -0.5,
    }  # fmt: skip


def main():
    rng, cases = random.Random(16), []
    for family in ["gemma3_text", "gpt2", "gpt_neox", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3"]:
        for _ in range(60):
            raw = {"model_type": family, **(GPT2 if family == "gpt2" else SIZES)}
            rate = rng.choice([0.05, 0.15, 0.3])
            for key, values in MAYBE.items():
                if rng.random() < rate:
                    raw[key] = rng.choice(values)
            if family != "gpt2":
                if rng.random() < 0.4:
                    raw["rope_scaling"] = rng.choice(ROPES + [None])
                if rng.random() < 0.5:
                    raw["rope_parameters"] = rng.choice(ROPES + [None])
                    if rng.random() < (0.7 if family == "gemma3_text" else 0.1):
                        raw["rope_parameters"] = {k: rng.choice(ROPES[:10] + [None]) for k in NESTED if rng.random() < 0.8}
            try:
                value = settled(family, raw)
                # Set past the class's checks under another family's name (gpt2).
                if value["positions"] is None:
                    raise ValueError("no positions")
            except Exception:
                value = None
            cases.append({"config": raw, "value": value})
    path = Path(__file__).resolve().parent.parent / "tests/parity/config_cases.json"
    lines = ",\n".join(json.dumps(case) for case in cases)
    text = f'{{"transformers": "{transformers.__version__}", "cases": [\n{lines}\n]}}\n'
    if sys.argv[1:] == ["--check"]:
        sys.exit(path.read_text() != text)
    path.write_text(text)
    print(len(cases), "cases,", sum(case["value"] is None for case in cases), "refused")


if __name__ == "__main__":
    main()
