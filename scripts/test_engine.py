#!/usr/bin/env python3
"""`w2s train --engine trl` against `w2s train`, and exports against the trainers that read them.

    cargo build && PYTHON scripts/test_engine.py [--w2s target/debug/w2s] [--exports]

PYTHON has torch, transformers, peft, accelerate and, for --exports, trl. On the CPU, with the tiny model of the
tests: some minutes.

- every normalisation of weighted losses, in two processes that accelerate joins: the loss and the gradient's norm
  of every step, the validation losses and the trained adapter are those of `w2s train` within 1e-3;
- one process by `accelerate launch`, as `--python` starts it;
- a training that is killed after a checkpoint goes on to the same losses;
- with --exports, TRL's SFTTrainer, DPOTrainer and RewardTrainer each read what `w2s export` wrote for them and make a
  step, the first with the validation rows.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "tests" / "parity" / "llama"
# Two processes on the CPU: accelerate's launcher starts them as it does on GPUs, and they are told where they are.
TWO = f"{sys.executable} -m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 " \
    "--mixed_precision no --dynamo_backend no"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1",
               "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}
TOLERANCE = 1e-3


# Labels of different lengths, so that no two normalisations are the same.
TASK = """name = "sums"
description = "is a sum right"
positive = "True"
[fields]
question = ["question"]
choice = ["choice"]
[prompt]
template = "Question: {question}\\nClaim: {choice}\\nIs it right? "
[[labels]]
name = "False"
word = "certainly not"
[[labels]]
name = "True"
word = "yes"
"""


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def claims(place):
    """Claims about sums, labels that are mostly right, and weights of all sizes."""
    records, labels, weights = [], [], []
    for i in range(20):
        a, b = i % 5, i // 5
        records.append({"id": f"c{i}", "question": f"{a}+{b}?", "choice": str(a + b + i % 2), "consistency_id": i})
        labels.append({"id": f"c{i}", "label": "True" if i % 2 == 0 else "False"})
        weights.append({"id": f"c{i}", "weight": round(0.1 + (7 * i % 20) / 10, 2)})
    return (write(place / "claims.jsonl", records), write(place / "labels.jsonl", labels),
            write(place / "weights.jsonl", weights))


class Trainings:
    def __init__(self, w2s, place):
        self.w2s, self.place = w2s, place
        self.data, self.labels, self.weights = claims(place)
        self.task = place / "sums.toml"
        self.task.write_text(TASK)

    def command(self, out, *more):
        return [str(part) for part in (
            self.w2s, "train", "--model", MODEL, "--task", self.task, "--data", self.data,
            "--labels", self.labels, "--weights", self.weights, "--dtype", "f32", "--lora-dropout", "0",
            "--lr", "5e-3", "--batch-size", "5", "--warmup-steps", "2", "--weight-decay", "0.01",
            "--validation", "0.2", "--out", self.place / out, *(() if "--epochs" in more else ("--epochs", "2")), *more)]

    def run(self, out, *more):
        result = subprocess.run(self.command(out, *more), env=ENVIRONMENT, capture_output=True, text=True)
        if result.returncode != 0:
            sys.exit(f"{out}: {result.stderr[-4000:]}")
        return self.place / out

    def compare(self, name, ours, theirs):
        """Holds two runs against each other, and tells how far they lie apart."""
        from safetensors.torch import load_file
        own, other = lines(ours / "metrics.jsonl"), lines(theirs / "metrics.jsonl")
        assert len(own) == len(other), f"{name}: {len(own)} and {len(other)} lines"
        apart = {"loss": 0.0, "grad_norm": 0.0, "validation_loss": 0.0}
        for a, b in zip(own, other):
            assert a["step"] == b["step"] and a.get("num_items") == b.get("num_items"), (a, b)
            for key in apart:
                assert (key in a) == (key in b), (a, b)
                if key in a:
                    apart[key] = max(apart[key], abs(a[key] - b[key]))
        a, b = (load_file(run / "adapter_model.safetensors") for run in (ours, theirs))
        assert a.keys() == b.keys()
        apart["adapter"] = max((a[key] - b[key]).abs().max().item() for key in a)
        steps = sum("loss" in line for line in own)
        print(f"{name}: {steps} steps; largest difference: "
              + ", ".join(f"{key} {value:.2g}" for key, value in apart.items()), flush=True)
        assert all(value <= TOLERANCE for value in apart.values()), f"{name}: more than {TOLERANCE}"
        moved = max(a[key].abs().max().item() for key in a if "lora_B" in key)
        assert moved > 10 * TOLERANCE, f"{name}: nothing was learnt"

    def cut(self, out, *more):
        """Kills a training once it has a checkpoint, and goes on with it."""
        checkpoint = self.place / out / "engine" / "checkpoint.pt"
        process = subprocess.Popen(self.command(out, *more), env=ENVIRONMENT, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, start_new_session=True)
        began = time.monotonic()
        while not checkpoint.exists():
            assert process.poll() is None, "the training ended before its checkpoint"
            assert time.monotonic() - began < 300, "no checkpoint came"
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (self.place / out / "timing.json").exists(), "it was killed too late"
        result = subprocess.run(self.command(out, *more, "--resume"), env=ENVIRONMENT, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr[-4000:]
        assert "continuing after step" in result.stderr, result.stderr
        return self.place / out


def exports(w2s, place):
    """What TRL's trainers make of exports."""
    # TRL wants an end token, which the tests' model has in its configuration alone.
    base = place / "base"
    shutil.copytree(MODEL, base)
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    words = {number: word for word, number in tokenizer["model"]["vocab"].items()}
    words.update({token["id"]: token["content"] for token in tokenizer["added_tokens"]})
    end = json.loads((base / "config.json").read_text())["eos_token_id"]
    end = words[end[0] if isinstance(end, list) else end]
    (base / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": end, "pad_token": end}))
    pairs = [{"id": f"p{i}", "question": f"What is {i}?", "choice": "A number.", "choice_2": f"Word {i}.",
              "consistency_id": i} for i in range(8)]
    data = write(place / "pairs.jsonl", pairs)

    def run(*command, **more):
        result = subprocess.run([str(part) for part in command], env=ENVIRONMENT, capture_output=True, text=True, **more)
        if result.returncode != 0:
            sys.exit(f"{command}: {result.stdout[-2000:]}{result.stderr[-4000:]}")
        return result.stdout + result.stderr

    labels = place / "labels"
    run(w2s, "label", "--model", MODEL, "--device", "cpu", "--task", "alpaca", "--data", data, "--method", "zero-shot",
        "--out", labels)
    questions = [{"id": f"q{i}", "question": f"Which is {i}?", "choices": ["wool", "silk"]} for i in range(10)]
    weak = place / "weak"
    run(w2s, "filter", "--entropy", "--model", MODEL, "--device", "cpu", "--task", "multiple-choice", "--data",
        write(place / "questions.jsonl", questions), "--quantile", "1", "--validation-fraction", "0.3", "--out", weak)
    for method, form, source in (("sft", "trl", weak), ("dpo", "dpo", labels), ("reward", "reward", labels)):
        out = place / form
        run(w2s, "export", source, "--format", form, "--base-model", base, "--out", out)
        said = run(Path(sys.executable).parent / "trl", method, "--config", "config.yaml", "--max_steps", "1",
                   "--logging_steps", "1", "--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "1",
                   "--use_cpu", "true", "--bf16", "false", cwd=out)
        assert (out / "output" / "adapter_model.safetensors").exists(), said
        losses = [word for word in ("'loss'", "'eval_loss'") if word in said]
        assert "'loss'" in losses and ("'eval_loss'" in losses) == (method == "sft"), said
        print(f"trl {method}: one step on {len(lines(out / 'data' / 'train.jsonl'))} rows ({', '.join(losses)})", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--w2s", type=Path, default=ROOT / "target" / "debug" / "w2s")
    parser.add_argument("--exports", action="store_true", help="train a step with TRL on what `w2s export` writes")
    parser.add_argument("--only-exports", action="store_true", help="nothing else")
    args = parser.parse_args()
    w2s = args.w2s.resolve()
    with tempfile.TemporaryDirectory(prefix="w2s-engine-") as folder:
        place = Path(folder)
        if not args.only_exports:
            trainings = Trainings(w2s, place)
            for form in ("token", "weighted", "sequence", "reference"):
                ours = trainings.run(f"{form}-own", "--normalise", form)
                theirs = trainings.run(f"{form}-two", "--normalise", form, "--engine", "trl", "--launcher", TWO)
                engine = json.loads((theirs / "engine.json").read_text())
                assert engine["num_processes"] == 2, engine
                trainings.compare(f"{form}, two processes", ours, theirs)
            print(f"by {', '.join(f'{name} {number}' for name, number in engine['versions'].items())}")
            ours = place / "token-own"
            trainings.compare("token, one process", ours,
                              trainings.run("one", "--engine", "trl", "--python", sys.executable))
            more = ("--recompute", "--best", "--patience", "3", "--validate-every", "2")
            trainings.compare("token, recomputed, the best of validations", trainings.run("best-own", *more),
                              trainings.run("best", *more, "--engine", "trl", "--launcher", TWO))
            # Long enough to be killed in.
            long = ("--epochs", "20")
            trainings.compare("token, killed after a checkpoint", trainings.run("long-own", *long), trainings.cut(
                "cut", *long, "--engine", "trl", "--launcher", TWO, "--checkpoint-steps", "3"))
        if args.exports or args.only_exports:
            exports(w2s, place)
    print("all hold")


if __name__ == "__main__":
    main()
