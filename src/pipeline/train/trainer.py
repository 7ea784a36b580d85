#!/usr/bin/env python3
"""Trains a low-rank adapter on the steps that `w2s train --engine trl` wrote.

    accelerate launch trainer.py config.json

Every step of the training is written down: which sequences, what the negative log-probability of each of
their target tokens is multiplied by (weight and normalisation together), and the learning rate. So the loss is
that of `w2s train` on however many processes, whose number and form (DDP, FSDP2) are accelerate's. Needs torch,
transformers, peft and accelerate. Lines that begin with `w2s: ` are read by `w2s`.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path

try:
    import accelerate
    import peft
    import torch
    import transformers
    from safetensors.torch import load_file, save_file
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        get_model_state_dict,
        get_optimizer_state_dict,
        set_model_state_dict,
        set_optimizer_state_dict,
    )
except ImportError as missing:
    print("w2s: " + json.dumps({"missing": missing.name or str(missing)}), flush=True)
    sys.exit(3)

# Sequences and tokens of one pass, where the training does not say.
PASS_SEQUENCES = 8
PASS_TOKENS = 4096
# Settings of models that drop activations; `w2s` drops the adapter's inputs only.
DROPOUTS = ("attention_dropout", "attn_pdrop", "embd_pdrop", "hidden_dropout", "resid_pdrop",
            "classifier_dropout", "summary_first_dropout")
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)


class Engine:
    def __init__(self, path):
        self.place = Path(path).resolve().parent
        self.config = json.loads(Path(path).read_text())
        self.sequences = self.lines("sequences.jsonl")
        self.steps = self.lines("steps.jsonl")
        self.validation = self.config["validation"]
        digest = hashlib.sha256()
        for name in ("config.json", "sequences.jsonl", "steps.jsonl"):
            digest.update((self.place / name).read_bytes())
        self.digest = digest.hexdigest()
        self.accelerator = accelerate.Accelerator()
        started = int(os.environ.get("WORLD_SIZE", "1"))
        if started != self.accelerator.num_processes:
            # Each would train alone, and all would write to one folder.
            print("w2s: " + json.dumps({"failed": f"{started} processes were started, and accelerate joins "
                  f"{self.accelerator.num_processes} of them; on the CPU start them with torchrun and "
                  "ACCELERATE_USE_CPU=true"}), flush=True)
            sys.exit(4)
        transformers.set_seed(self.config["seed"])
        self.model = self.open()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=self.config["weight_decay"])
        self.model, self.optimizer = self.accelerator.prepare(self.model, optimizer)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.done = 0
        self.best = None
        self.num_worse = 0
        self.stopped = False

    def lines(self, name):
        with open(self.place / name, encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def tell(self, value):
        if self.accelerator.is_main_process:
            print("w2s: " + json.dumps(value), flush=True)

    def open(self):
        name = self.config["model"]
        dtype = DTYPES.get(self.config["dtype"])
        if dtype is None:
            dtype = torch.bfloat16 if self.accelerator.device.type == "cuda" else torch.float32
        config = transformers.AutoConfig.from_pretrained(name)
        for setting in DROPOUTS:
            if getattr(config, setting, None):
                setattr(config, setting, 0.0)
        model = transformers.AutoModelForCausalLM.from_pretrained(name, config=config, dtype=dtype)
        model.config.use_cache = False
        model = peft.PeftModel.from_pretrained(model, self.place / "initial", is_trainable=True)
        for path, module in model.named_modules():
            if "lora_dropout" in path and isinstance(module, (torch.nn.Dropout, torch.nn.Identity)):
                parent = model.get_submodule(path.rpartition(".")[0])
                rate = self.config["dropout"]
                parent[path.rpartition(".")[2]] = torch.nn.Dropout(rate) if rate else torch.nn.Identity()
        if self.config["recompute"]:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable({"use_reentrant": False})
        return model

    def passes(self, rows):
        """The rows of each process, in passes: as many of them for each, some empty."""
        size, rank = self.accelerator.num_processes, self.accelerator.process_index
        most, tokens = self.config["pass_sequences"] or PASS_SEQUENCES, self.config["pass_tokens"] or PASS_TOKENS
        length = lambda row: len(self.sequences[row[0]]["ids"])
        shares, loads = [[] for _ in range(size)], [0] * size
        # The longest first, each to who has the fewest tokens.
        for row in sorted(rows, key=length, reverse=True):
            least = min(range(size), key=lambda one: loads[one])
            shares[least].append(row)
            loads[least] += length(row)
        cut = []
        for share in shares:
            passes = []
            for row in share:
                # They stand in falling order, so the first is the widest.
                if passes and len(passes[-1]) < most and (len(passes[-1]) + 1) * length(passes[-1][0]) <= tokens:
                    passes[-1].append(row)
                else:
                    passes.append([row])
            cut.append(passes)
        num = max(len(passes) for passes in cut)
        # Processes meet in every pass, so those with fewer run one that counts nothing.
        nothing = [[rows[0][0], 0.0]]
        return (cut[rank] + [nothing] * num)[:num]

    def loss(self, rows):
        """The loss of a pass."""
        sequences = [self.sequences[place] for place, _ in rows]
        longest = max(len(one["ids"]) for one in sequences)
        ids = torch.zeros((len(rows), longest), dtype=torch.long)
        mask = torch.zeros_like(ids)
        factors = torch.zeros((len(rows), longest), dtype=torch.float32)
        for i, (one, (_, factor)) in enumerate(zip(sequences, rows)):
            ids[i, :len(one["ids"])] = torch.tensor(one["ids"])
            mask[i, :len(one["ids"])] = 1
            factors[i, one["begin"]:len(one["ids"])] = factor
        device = self.accelerator.device
        ids, mask, factors = ids.to(device), mask.to(device), factors.to(device)
        first = min(one["begin"] for one in sequences)
        # The head runs where something is predicted.
        keep = torch.arange(first - 1, longest - 1, device=device)
        logits = self.model(input_ids=ids, attention_mask=mask, logits_to_keep=keep).logits
        if logits.shape[1] != len(keep):
            logits = logits[:, first - 1:longest - 1]
        logprobs = torch.log_softmax(logits.float(), dim=-1)
        target = logprobs.gather(-1, ids[:, first:].unsqueeze(-1)).squeeze(-1)
        return -(target * factors[:, first:]).sum()

    def summed(self, value):
        return self.accelerator.reduce(value.detach().float().reshape(1), reduction="sum").item()

    def step(self, step):
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = step["lr"]
        self.optimizer.zero_grad()
        passes = self.passes(step["rows"])
        total = torch.zeros((), device=self.accelerator.device)
        for at, rows in enumerate(passes):
            is_last = at + 1 == len(passes)
            with contextlib.nullcontext() if is_last else self.accelerator.no_sync(self.model):
                loss = self.loss(rows)
                # Processes take the mean of their gradients; the loss is a sum.
                self.accelerator.backward(loss * self.accelerator.num_processes)
            total += loss.detach()
        most = self.config["clip"]
        norm = self.accelerator.clip_grad_norm_(self.trained, float("inf") if most is None else most)
        if hasattr(norm, "full_tensor"):
            norm = norm.full_tensor()
        loss, norm = self.summed(total), float(norm)
        for what, value in (("loss", loss), ("norm of the gradient", norm)):
            if not torch.isfinite(torch.tensor(value)):
                self.tell({"failed": f"step {step['step']}: the {what} is {value}"})
                sys.exit(4)
        self.optimizer.step()
        self.done = step["step"]
        tokens = sum(len(self.sequences[place]["ids"]) - 1 for place, _ in step["rows"])
        self.tell({"step": {**{name: step[name] for name in ("step", "epoch", "lr", "num_items")},
                            "loss": loss, "grad_norm": norm, "num_tokens": tokens,
                            "num_sequence_tokens": tokens}})

    def validate(self):
        self.model.eval()
        total = torch.zeros((), device=self.accelerator.device)
        with torch.no_grad():
            for rows in self.passes(self.validation):
                total += self.loss(rows)
        loss = self.summed(total)
        self.tell({"validation": {"step": self.done, "validation_loss": loss}})
        if self.best is None or loss < self.best[0]:
            self.best, self.num_worse = [loss, self.done], 0
            if self.config["best"]:
                self.save(self.place / "best")
        else:
            self.num_worse += 1
            patience = self.config["patience"]
            self.stopped = patience is not None and self.num_worse >= patience

    def state(self):
        """The adapter's tensors by the names of PEFT's files, in every process."""
        state = get_model_state_dict(self.model, options=WHOLE)
        return {name.replace(".default.", "."): tensor.float().contiguous() for name, tensor in state.items()}

    def save(self, folder):
        state = self.state()
        if self.accelerator.is_main_process:
            folder.mkdir(exist_ok=True)
            shutil.copy(self.place / "initial" / "adapter_config.json", folder)
            save_file(state, folder / "part.safetensors", metadata={"format": "pt"})
            os.replace(folder / "part.safetensors", folder / "adapter_model.safetensors")
        self.accelerator.wait_for_everyone()

    def checkpoint(self):
        state = self.state()
        optimizer = get_optimizer_state_dict(self.model, self.optimizer_itself(), options=WHOLE)
        if self.accelerator.is_main_process:
            kept = {"digest": self.digest, "step": self.done, "best": self.best, "num_worse": self.num_worse,
                    "model": state, "optimizer": optimizer}
            torch.save(kept, self.place / "checkpoint.part")
            os.replace(self.place / "checkpoint.part", self.place / "checkpoint.pt")
        self.accelerator.wait_for_everyone()

    def optimizer_itself(self):
        return getattr(self.optimizer, "optimizer", self.optimizer)

    def resume(self):
        path = self.place / "checkpoint.pt"
        if not path.exists():
            return
        kept = torch.load(path, map_location="cpu", weights_only=True)
        if kept["digest"] != self.digest:
            return
        state = {self.own_name(name): tensor for name, tensor in kept["model"].items()}
        options = StateDictOptions(full_state_dict=True, ignore_frozen_params=True, strict=False)
        set_model_state_dict(self.model, state, options=options)
        set_optimizer_state_dict(self.model, self.optimizer_itself(), kept["optimizer"], options=options)
        self.done, self.best, self.num_worse = kept["step"], kept["best"], kept["num_worse"]

    @staticmethod
    def own_name(name):
        """The name in the model of a tensor in PEFT's files."""
        head, _, tail = name.rpartition(".")
        return f"{head}.default.{tail}"

    def run(self):
        self.resume()
        self.tell({"begin": {"num_processes": self.accelerator.num_processes, "num_done": self.done,
                             "distributed": str(self.accelerator.distributed_type).rpartition(".")[2],
                             "device": self.accelerator.device.type,
                             "versions": {"accelerate": accelerate.__version__, "peft": peft.__version__,
                                          "torch": str(torch.__version__),
                                          "transformers": transformers.__version__}}})
        every, last = self.config["checkpoint_steps"], time.monotonic()
        for at, step in enumerate(self.steps):
            if step["step"] <= self.done:
                continue
            self.step(step)
            is_last = at + 1 == len(self.steps)
            due = step["ends_epoch"] if self.config["validate_every"] is None \
                else step["step"] % self.config["validate_every"] == 0
            if self.validation and (due or is_last):
                self.validate()
            if is_last or self.stopped:
                break
            # All processes must agree that it is time.
            late = torch.tensor([float(time.monotonic() - last >= self.config["checkpoint_seconds"])],
                                device=self.accelerator.device)
            if self.accelerator.reduce(late, reduction="sum").item() > 0 \
                    or (every is not None and step["step"] % every == 0):
                self.checkpoint()
                last = time.monotonic()
        written = self.done
        if self.config["best"] and self.best is not None:
            written = self.best[1]
            if self.accelerator.is_main_process:
                shutil.rmtree(self.place / "output", ignore_errors=True)
                shutil.copytree(self.place / "best", self.place / "output")
        else:
            self.save(self.place / "output")
        self.tell({"end": {"step": self.done, "written_step": written, "best": self.best,
                           "stopped": self.stopped}})
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()


if __name__ == "__main__":
    Engine(sys.argv[1]).run()
