#!/usr/bin/env python3
"""Turns a GGUF file into an ordinary Hugging Face model folder.

    python3 scripts/gguf_to_hf.py MODEL.gguf FOLDER [--dtype float32|bfloat16|float16]

Writes config.json, generation_config.json, tokenizer.json, tokenizer_config.json,
special_tokens_map.json and model.safetensors. Quantised tensors are dequantised. Needs the
packages of scripts/lib/convert.txt (gguf, numpy, pyyaml), and neither torch nor a network.

Architectures: `llama` and `gemma3` (text). Tokenizers: byte-level BPE (`gpt2`) and
SentencePiece BPE (`llama`, whose merges are rebuilt from the scores of the pieces).

The same input gives the same bytes: scripts/setup pins the SHA-256 of what comes out.
"""

import argparse
import json
import signal
import struct
import sys
from pathlib import Path

import gguf
import numpy as np

# gguf.TokenType
CONTROL, USER_DEFINED, UNUSED, BYTE = 3, 4, 5, 6

# What SentencePiece writes for a space.
METASPACE = "\u2581"

# Every 6th layer of Gemma 3 attends to everything; GGUF does not say so.
GEMMA3_WINDOW_PATTERN = 6
# Nor does it give the rope base of the layers with a window.
GEMMA3_LOCAL_ROPE_BASE = 10000.0

MODEL_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}

ATTENTION_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}
MLP_NAMES = {
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
LAYER_NAMES = {
    "llama": {**ATTENTION_NAMES, **MLP_NAMES, "ffn_norm": "post_attention_layernorm"},
    "gemma3": {
        **ATTENTION_NAMES,
        **MLP_NAMES,
        "attn_q_norm": "self_attn.q_norm",
        "attn_k_norm": "self_attn.k_norm",
        "post_attention_norm": "post_attention_layernorm",
        "ffn_norm": "pre_feedforward_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    },
}

SAFETENSORS_DTYPES = {"float32": ("F32", 4), "bfloat16": ("BF16", 2), "float16": ("F16", 2)}


class ConversionError(Exception):
    """What is wrong with the GGUF file, in one sentence."""


def metadata(reader):
    """Returns the key-value pairs of the file's header."""
    return {key: field.contents() for key, field in reader.fields.items()}


# Weights


def hf_name(gguf_name, arch):
    """Returns the Hugging Face name of a tensor."""
    if gguf_name in MODEL_NAMES:
        return MODEL_NAMES[gguf_name]
    try:
        block, layer, part, kind = gguf_name.split(".")
        if block != "blk":
            raise KeyError(block)
        return f"model.layers.{int(layer)}.{LAYER_NAMES[arch][part]}.{kind}"
    except (KeyError, ValueError):
        raise ConversionError(f"tensor `{gguf_name}` is not known for `{arch}`") from None


def undo_rope_permutation(weight, num_heads):
    """Returns rows of q or k in Hugging Face's order.

    llama.cpp interleaves the two halves of each head that rope rotates together; Hugging
    Face keeps the halves apart.
    """
    rows, columns = weight.shape
    pairs = weight.reshape(num_heads, rows // num_heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def hf_weight(tensor, name, arch, num_heads, num_kv_heads):
    """Returns the float32 values of a tensor as the Hugging Face model holds them."""
    shape = [int(size) for size in reversed(tensor.shape)]
    weight = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    weight = weight.astype(np.float32, copy=False).reshape(shape)
    if arch == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
        weight = undo_rope_permutation(weight, num_heads if "q_proj" in name else num_kv_heads)
    if arch == "gemma3" and name.endswith("norm.weight"):
        # Gemma multiplies by 1 + w and stores w; GGUF stores the sum.
        weight = weight - np.float32(1.0)
    return np.ascontiguousarray(weight)


def to_dtype(weight, dtype):
    """Returns the little-endian values of `weight` rounded to nearest even in `dtype`."""
    if dtype == "float32":
        return weight.astype("<f4", copy=False)
    if dtype == "float16":
        return weight.astype("<f2")
    # numpy has no bfloat16: it is the upper half of a float32.
    bits = weight.view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2")


def write_safetensors(path, entries, dtype, weight_of):
    """Writes tensors one after another, so that only one of them is in memory at a time.

    `entries` holds (name, shape, key); `weight_of(name, key)` gives the float32 values. The
    bytes are those of the `safetensors` package: tensors by name, header padded to 8 bytes.
    """
    code, width = SAFETENSORS_DTYPES[dtype]
    entries = sorted(entries, key=lambda entry: entry[0])
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _ in entries:
        start, end = end, end + width * int(np.prod(shape))
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, _, key in entries:
            file.write(to_dtype(weight_of(name, key), dtype).data)
        if file.tell() != 8 + len(text) + end:
            raise ConversionError(f"`{path}` has {file.tell()} bytes, expected {8 + len(text) + end}")


# Configuration


def hf_config(meta, arch, tied, dtype):
    """Returns config.json."""

    def get(key, default=None):
        return meta.get(f"{arch}.{key}", default)

    def token(kind):
        return meta.get(f"tokenizer.ggml.{kind}_token_id")

    num_heads = get("attention.head_count")
    num_layers = get("block_count")
    head_dim = get("attention.key_length", get("embedding_length") // num_heads)
    epsilon = float(np.float32(get("attention.layer_norm_rms_epsilon")))
    config = {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": token("bos"),
        "eos_token_id": token("eos"),
        "head_dim": head_dim,
        "hidden_size": get("embedding_length"),
        "initializer_range": 0.02,
        "intermediate_size": get("feed_forward_length"),
        "max_position_embeddings": get("context_length"),
        "num_attention_heads": num_heads,
        "num_hidden_layers": num_layers,
        "num_key_value_heads": get("attention.head_count_kv", num_heads),
        "pad_token_id": token("padding"),
        # The decimal that the stored float32 came from: 1e-05, not 9.99999974e-06.
        "rms_norm_eps": float(f"{epsilon:.6g}"),
        "rope_scaling": None,
        "rope_theta": float(get("rope.freq_base", 10000.0)),
        "tie_word_embeddings": tied,
        "torch_dtype": dtype,
        "use_cache": True,
        "vocab_size": len(meta["tokenizer.ggml.tokens"]),
    }
    if arch == "llama":
        config.update(
            architectures=["LlamaForCausalLM"],
            hidden_act="silu",
            mlp_bias=False,
            model_type="llama",
            pretraining_tp=1,
        )
    else:
        full = [(layer + 1) % GEMMA3_WINDOW_PATTERN == 0 for layer in range(num_layers)]
        config.update(
            architectures=["Gemma3ForCausalLM"],
            attn_logit_softcapping=None,
            final_logit_softcapping=None,
            hidden_activation="gelu_pytorch_tanh",
            layer_types=["full_attention" if f else "sliding_attention" for f in full],
            model_type="gemma3_text",
            query_pre_attn_scalar=head_dim,
            rope_local_base_freq=GEMMA3_LOCAL_ROPE_BASE,
            sliding_window=get("attention.sliding_window"),
            sliding_window_pattern=GEMMA3_WINDOW_PATTERN,
        )
    return dict(sorted(config.items()))


# Tokenizer


def added_token(token_id, content, special):
    return {
        "id": token_id,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
    }


def added_tokens(pieces, types):
    """Returns the pieces that the tokenizer cuts out of the text before anything else."""
    return [
        added_token(i, piece, types[i] == CONTROL)
        for i, piece in enumerate(pieces)
        if types[i] in (CONTROL, USER_DEFINED)
    ]


def bpe_model(vocab, merges, **options):
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        **options,
        "vocab": vocab,
        "merges": merges,
    }


def byte_level_tokenizer(meta):
    """Returns tokenizer.json of a byte-level BPE."""
    pieces, types = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"]
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    digits = {"type": "Digits", "individual_digits": True}
    pre_tokenizers = {
        "gpt-2": byte_level,
        "smollm": {"type": "Sequence", "pretokenizers": [digits, byte_level]},
    }
    pre = meta.get("tokenizer.ggml.pre", "default")
    if pre not in pre_tokenizers:
        raise ConversionError(f"pre-tokenizer `{pre}` is not known")
    merges = [merge.split(" ") for merge in meta["tokenizer.ggml.merges"]]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added_tokens(pieces, types),
        "normalizer": None,
        "pre_tokenizer": pre_tokenizers[pre],
        "post_processor": None,
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": bpe_model({piece: i for i, piece in enumerate(pieces)}, merges),
    }


def merges_from_scores(usable, scores):
    """Returns the merges of a SentencePiece BPE, best-scored result first."""
    merges = []
    for piece, score in scores.items():
        cuts = ((piece[:i], piece[i:]) for i in range(1, len(piece)))
        parts = [cut for cut in cuts if cut[0] in usable and cut[1] in usable]
        parts.sort(key=lambda cut: (usable[cut[0]], usable[cut[1]]))
        merges.extend((left, right, score) for left, right in parts)
    merges.sort(key=lambda merge: (merge[2], len(merge[0]), len(merge[1])), reverse=True)
    return [[left, right] for left, right, _ in merges]


def sentencepiece_tokenizer(meta):
    """Returns tokenizer.json of a SentencePiece BPE."""
    raw, types = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"]
    stored_scores = meta["tokenizer.ggml.scores"]
    # GGUF stores user-defined pieces with plain spaces, all others with METASPACE.
    pieces = [
        piece.replace(" ", METASPACE) if types[i] == USER_DEFINED else piece
        for i, piece in enumerate(raw)
    ]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    mergeable = [(i, p) for i, p in enumerate(pieces) if types[i] not in (CONTROL, BYTE, UNUSED)]
    # SentencePiece scores user-defined pieces 0, so that they merge first; GGUF says -1000.
    scores = {p: 0.0 if types[i] == USER_DEFINED else stored_scores[i] for i, p in mergeable}
    usable = {p: vocab[p] for _, p in mergeable}

    bos = meta["tokenizer.ggml.bos_token_id"]
    add_bos = bool(meta.get("tokenizer.ggml.add_bos_token", True))
    add_prefix = bool(meta.get("tokenizer.ggml.add_space_prefix", True))

    def with_bos(name, type_id):
        first = [{"SpecialToken": {"id": raw[bos], "type_id": type_id}}] if add_bos else []
        return first + [{"Sequence": {"id": name, "type_id": type_id}}]

    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": METASPACE}
    prefix = {"type": "Prepend", "prepend": METASPACE}
    normalizer = {"type": "Sequence", "normalizers": [prefix, spaces]} if add_prefix else spaces
    split = {
        "type": "Split",
        "pattern": {"String": " "},
        "behavior": "MergedWithPrevious",
        "invert": False,
    }
    decoders = [
        {"type": "Replace", "pattern": {"String": METASPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if add_prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added_tokens(pieces, types),
        "normalizer": normalizer,
        "pre_tokenizer": None if add_prefix else split,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": with_bos("A", 0),
            "pair": with_bos("A", 0) + with_bos("B", 1),
            "special_tokens": {raw[bos]: {"id": raw[bos], "ids": [bos], "tokens": [raw[bos]]}},
        },
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": bpe_model(
            vocab,
            merges_from_scores(usable, scores),
            unk_token=raw[meta["tokenizer.ggml.unknown_token_id"]],
            fuse_unk=True,
            byte_fallback=True,
        ),
    }


TOKENIZERS = {"gpt2": byte_level_tokenizer, "llama": sentencepiece_tokenizer}


def special_tokens(meta):
    """Returns special_tokens_map.json."""
    kinds = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    found = {}
    for short, long in kinds.items():
        token_id = meta.get(f"tokenizer.ggml.{long}_token_id")
        if token_id is not None:
            found[f"{short}_token"] = meta["tokenizer.ggml.tokens"][token_id]
    return found


def tokenizer_config(meta, arch, kind, special):
    """Returns tokenizer_config.json."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
        "model_max_length": meta[f"{arch}.context_length"],
        "add_bos_token": bool(meta.get("tokenizer.ggml.add_bos_token", kind == "llama")),
        "add_eos_token": False,
        **special,
    }
    if "tokenizer.chat_template" in meta:
        config["chat_template"] = meta["tokenizer.chat_template"]
    return config


def convert(source, folder, dtype):
    """Writes the Hugging Face folder of a GGUF file and returns its number of parameters."""
    reader = gguf.GGUFReader(source)
    meta = metadata(reader)
    arch = meta["general.architecture"]
    if arch not in LAYER_NAMES:
        known = ", ".join(f"`{name}`" for name in LAYER_NAMES)
        raise ConversionError(f"architecture `{arch}` is not known, expected one of {known}")
    kind = meta["tokenizer.ggml.model"]
    if kind not in TOKENIZERS:
        raise ConversionError(f"tokenizer model `{kind}` is not known")

    folder.mkdir(parents=True, exist_ok=True)
    num_heads = meta[f"{arch}.attention.head_count"]
    num_kv_heads = meta.get(f"{arch}.attention.head_count_kv", num_heads)
    entries = [
        (hf_name(tensor.name, arch), [int(size) for size in reversed(tensor.shape)], tensor)
        for tensor in reader.tensors
        # A table that follows from the configuration.
        if tensor.name != "rope_freqs.weight"
    ]

    def weight_of(name, tensor):
        return hf_weight(tensor, name, arch, num_heads, num_kv_heads)

    write_safetensors(folder / "model.safetensors", entries, dtype, weight_of)

    tied = all(name != "lm_head.weight" for name, _, _ in entries)
    config = hf_config(meta, arch, tied, dtype)
    generation = {"_from_model_config": True}
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if config[key] is not None:
            generation[key] = config[key]
    special = special_tokens(meta)
    files = {
        "config.json": config,
        "generation_config.json": generation,
        "special_tokens_map.json": special,
        "tokenizer.json": TOKENIZERS[kind](meta),
        "tokenizer_config.json": tokenizer_config(meta, arch, kind, special),
    }
    for name, content in files.items():
        text = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
        (folder / name).write_text(text, encoding="utf-8")
    return sum(int(np.prod(shape)) for _, shape, _ in entries)


def main():
    # Ctrl-C ends it without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gguf", type=Path, help="the file to read")
    parser.add_argument("folder", type=Path, help="the folder to write")
    parser.add_argument("--dtype", default="float32", choices=SAFETENSORS_DTYPES)
    args = parser.parse_args()
    try:
        parameters = convert(args.gguf, args.folder, args.dtype)
    except (ConversionError, OSError, ValueError, KeyError) as error:
        sys.exit(f"error: {error}\n  in: `{args.gguf}`")
    print(f"{parameters:,} parameters in {args.dtype}", file=sys.stderr)


if __name__ == "__main__":
    main()
