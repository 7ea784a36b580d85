#!/usr/bin/env python3
"""Leave-one-out scoring of N claims: w2s against llama.cpp with its prefix cache, in one run.

    apt-get install libopenblas-dev
    python3 -m venv .setup/bench
    CMAKE_ARGS="-DGGML_NATIVE=ON -DGGML_LLAMAFILE=ON -DGGML_BLAS=ON -DGGML_BLAS_VENDOR=OpenBLAS \\
        -DBLAS_INCLUDE_DIRS=/usr/include/x86_64-linux-gnu" \\
        .setup/bench/bin/pip install -r scripts/bench/requirements.txt
    cargo build --release && scripts/setup
    .setup/bench/bin/python scripts/bench/prefix_cache.py [--sizes 64 128] [--rounds 3]

(pip builds llama.cpp for this machine, which takes some minutes; without the two BLAS settings it is
about 15 % slower. The machine must be otherwise idle: threads of ggml wait for each other in a loop.)

llama.cpp gets the weights of the model folder as an f32 GGUF, which is made once under target/, and
the token ids of the folder's tokenizer. It scores the claims one after another in the order of the
data, as published: what a prompt has in common with the one before it stays in the cache, and the
rest is run in batches of 512 with the head at the last position only. At most --prompts of the N
prompts, evenly spread, are timed, what they share being put into the cache untimed; the others are
extrapolated by tokens (`timed`). w2s runs `label --method few-shot` by its own clock (timing.json,
without opening the model). The two take turns; the ratio of each round is formed from neighbours.

Before that, 16 claims are scored by both in the order of the data, and the log-probabilities of the
labels must agree within 0.02. llama.cpp keeps keys and values in f16 and uses flash attention, which
are its defaults and the fastest (with neither they agree within 0.0001).
"""

import argparse
import ctypes
import json
import time
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from common import MODEL, ROOT, claims, compare, machine, num_threads, prompts, w2s

BARS = {"halving": {}, "default": {64: 2.5, 128: 4.5}}
BATCH = 512
TOLERANCE = 0.02
LABELS = ("False", "True")


def rope_order(weight, num_heads):
    """Returns rows of q or k as llama.cpp wants them: the two numbers that rope turns, side by side."""
    rows, columns = weight.shape
    halves = weight.reshape(num_heads, 2, rows // num_heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def write_gguf(folder, path):
    """Writes the f32 GGUF of a llama-like folder, without a tokenizer."""
    config = json.loads((folder / "config.json").read_text())
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    layers = config["num_hidden_layers"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_block_count(layers)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, layers)
    for name, weight in load_file(folder / "model.safetensors").items():
        if name.endswith("q_proj.weight"):
            weight = rope_order(weight, heads)
        elif name.endswith("k_proj.weight"):
            weight = rope_order(weight, kv_heads)
        writer.add_tensor(names.get_name(name, (".weight",)),
                          np.ascontiguousarray(weight, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def num_common(one, other):
    return next((i for i, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))


def log_of_sum(logits):
    top = logits.max()
    return top + np.log(np.exp(logits - top).sum(dtype=np.float64))


class LlamaCpp:
    def __init__(self, folder, num_ctx):
        path = ROOT / "target" / f"{folder.name}-f32.gguf"
        if not path.exists():
            write_gguf(folder, path.with_suffix(".partial"))
            path.with_suffix(".partial").rename(path)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.silence = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self.silence, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(
            str(path).encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            raise SystemExit(f"llama.cpp does not open {path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = num_ctx, BATCH, BATCH
        params.n_threads = params.n_threads_batch = num_threads()
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.batch = llama_cpp.llama_batch_init(BATCH, 0, 1)
        self.num_vocab = llama_cpp.llama_vocab_n_tokens(
            llama_cpp.llama_model_get_vocab(self.model))
        # Both words are one token, and w2s finds the same border.
        self.labels = [self.ids(" " + label)[0] for label in LABELS]
        self.held = []

    def ids(self, text):
        return self.tokenizer.encode(text).ids

    def run(self, ids):
        """Runs what the cache does not hold of ids, and returns how many tokens that was."""
        # The last one is run even if it is held: its logits are needed.
        keep = min(num_common(ids, self.held), len(ids) - 1)
        llama_cpp.llama_memory_seq_rm(self.memory, 0, keep, -1)
        for start in range(keep, len(ids), BATCH):
            part = ids[start:start + BATCH]
            self.batch.n_tokens = len(part)
            for i, token in enumerate(part):
                self.batch.token[i] = token
                self.batch.pos[i] = start + i
                self.batch.n_seq_id[i] = 1
                self.batch.seq_id[i][0] = 0
                self.batch.logits[i] = start + i + 1 == len(ids)
            if llama_cpp.llama_decode(self.context, self.batch):
                raise SystemExit("llama_decode failed")
        self.held = ids
        return len(ids) - keep

    def logprobs(self):
        """Returns the log-probabilities of the labels, among all tokens, after what was run last."""
        pointer = llama_cpp.llama_get_logits_ith(self.context, -1)
        logits = np.ctypeslib.as_array(pointer, (self.num_vocab,))
        return logits[self.labels] - log_of_sum(logits)

    def seconds(self, texts, most):
        """Returns seconds for all texts, tokens run for all, and how much of it was timed."""
        all_ids = [self.ids(text) for text in texts]
        num = len(all_ids)
        shared = [0] + [num_common(a, b) for a, b in zip(all_ids, all_ids[1:])]
        total = sum(len(ids) - keep for ids, keep in zip(all_ids, shared))
        done, spent = 0, 0.0
        for k in range(min(most, num)):
            i = (2 * k + 1) * num // (2 * min(most, num))
            # The cache as the prompt before leaves it.
            self.held = self.held[:shared[i]]
            if shared[i] and num_common(self.held, all_ids[i]) < shared[i]:
                self.run(all_ids[i][:shared[i]])
            began = time.perf_counter()
            done += self.run(all_ids[i])
            self.logprobs()
            spent += time.perf_counter() - began
        return spent * total / done, total, done / total


def check(other, folder):
    """Scores 16 claims on both sides and returns the furthest difference of log-probabilities."""
    rows = claims(16)
    found = w2s(folder, rows, ["--order", "dataset"]).records
    furthest = 0.0
    for text, record in zip(prompts(rows), found):
        other.run(other.ids(text))
        theirs = other.logprobs()
        # A record's are those among the labels.
        theirs -= log_of_sum(theirs)
        mine = [record["logprobs"][label] for label in LABELS]
        furthest = max(furthest, np.abs(theirs - mine).max())
    if furthest > TOLERANCE:
        raise SystemExit(f"log-probabilities differ by {furthest:.3f}: this is not the same work")
    return furthest


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=16, help="most prompts of llama.cpp timed")
    args = parser.parse_args()
    longest = max(args.sizes) * 48
    other = LlamaCpp(args.model, longest)
    library = Path(llama_cpp.__file__).with_name("lib") / "libggml-blas.so"
    blas = "with BLAS" if library.exists() else "without BLAS"
    print(machine(args.model, f"llama-cpp-python {llama_cpp.__version__} {blas}"))
    print(f"log-probabilities of 16 claims agree within {check(other, args.model):.4f}")
    compare("llama.cpp", args.model, args.sizes, args.rounds,
            lambda texts: other.seconds(texts, args.prompts), BARS)


if __name__ == "__main__":
    main()
