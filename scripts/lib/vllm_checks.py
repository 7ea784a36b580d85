"""A real vLLM on loopback against the local scorer; see scripts/test_server.py --vllm."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from server_checks import MODEL, NAME, ROOT, compare, hard_questions, label, questions, same_labels, score, table

# The largest difference of a log-probability in f32, in nats.
MOST = 1e-4
ROUTES = ("token-ids", "echo", "top-k")


class Vllm:
    """A vLLM server while it runs."""

    name = "vLLM"

    def __init__(self, python, log, *more):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.root = f"http://127.0.0.1:{port}"
        self.url = f"{self.root}/v1"
        self.log = log
        environment = {
            **os.environ,
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1",
        }
        command = [
            python, "-m", "vllm.entrypoints.cli.main", "serve", MODEL, "--served-model-name", NAME,
            "--host", "127.0.0.1", "--port", port, "--dtype", "float32", "--max-model-len", 4096,
            "--block-size", 32, "--max-num-seqs", 16, "--enforce-eager", "--enable-prompt-tokens-details", *more,
        ]
        self.process = subprocess.Popen([str(part) for part in command], env=environment, cwd=log.parent,
                                        stdout=log.open("w"), stderr=subprocess.STDOUT)

    def __enter__(self):
        until = time.monotonic() + 600
        while True:
            try:
                self.ask("GET", "/v1/models")
                return self
            except OSError:
                if self.process.poll() is not None or time.monotonic() > until:
                    self.process.kill()
                    sys.exit(f"error: vLLM does not start\n{self.log.read_text()[-3000:]}")
                time.sleep(1)

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.root + path, data, {"Content-Type": "application/json"}, method=method)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return direct.open(request, timeout=60).read()

    def load(self, name, adapter):
        self.ask("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(adapter)})

    def unload(self, name):
        self.ask("POST", "/v1/unload_lora_adapter", {"lora_name": name})


def adapter(w2s, place, seed):
    """Trains an adapter on eight reviews and returns its folder."""
    out = place / f"adapter-{seed}"
    command = [
        w2s, "train", "--model", MODEL, "--task", "sentiment", "--data", ROOT / "data/demo/reviews.jsonl",
        "--labels", "gold", "--gold", ROOT / "data/demo/reviews.gold.jsonl", "--limit", 8, "--epochs", 1,
        "--batch-size", 4, "--lr", "2e-3", "--lora-r", 4, "--seed", seed, "--device", "cpu", "--dtype", "f32",
        "--out", out,
    ]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(map(str, command))}\n{done.stderr}")
    return out


def apart(first, second):
    return max(abs(first[i][label] - second[i][label]) for i in first for label in first[i])


def adapters(w2s, server, place, data, local):
    """An adapter as it is, and one loaded under the same name later: never the answers of the first."""
    first, second = adapter(w2s, place, 1), adapter(w2s, place, 2)
    cache = ["--response-cache", place / "answers"]
    base, _ = score(w2s, MODEL, data, *local)
    before = None
    for number, folder in enumerate([first, second]):
        ours, _ = score(w2s, MODEL, data, *local, "--adapter", folder)
        server.load("student", folder)
        found, said = score(w2s, f"{server.url}#student", data, *cache, "--tokenizer", MODEL)
        compare(f"adapter {number + 1} under one name", ours, found, MOST, MOST)
        if apart(base, ours) < 100 * MOST or before is not None and apart(before, ours) < 100 * MOST:
            sys.exit("error: the adapters change too little to be told apart")
        again, said = score(w2s, f"{server.url}#student", data, *cache, "--tokenizer", MODEL)
        if apart(found, again) != 0:
            sys.exit(f"error: answers that were kept are other ones\n{said}")
        before = ours
        server.unload("student")


def run(w2s, python, local, num):
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        easy, hard = place / "easy.jsonl", place / "hard.jsonl"
        easy.write_text("".join(json.dumps(row) + "\n" for row in questions()))
        hard.write_text("".join(json.dumps(row) + "\n" for row in hard_questions()))
        off = ["--response-cache", "off", "--tokenizer", MODEL]
        with Vllm(python, place / "vllm.log") as server:
            model = f"{server.url}#{NAME}"
            for name, data in (("short labels", easy), ("labels of several tokens", hard)):
                ours, _ = score(w2s, MODEL, data, *local)
                found, said = score(w2s, model, data, *off)
                if "route token-ids" not in said:
                    sys.exit(f"error: expected the route token-ids:\n{said}")
                compare(f"{name}, the best route", ours, found, MOST, MOST)
                for route in ROUTES:
                    found, _ = score(w2s, model, data, *off, "--route", route, "--max-misses", 0)
                    compare(f"{name}, {route}", ours, found, MOST, MOST)
            same_labels(label(w2s, MODEL, place / "local", *local), label(w2s, model, place / "served", *off), MOST)
            if num:
                table(w2s, server, place, num, local, ROUTES)
        # A server of its own: vLLM 0.32 on a CPU dies of prompt log-probabilities where it has adapters.
        with Vllm(python, place / "adapters.log", "--enable-lora", "--max-lora-rank", 32) as server:
            adapters(w2s, server, place, easy, local)
    print("all agree")
