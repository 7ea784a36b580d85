#!/usr/bin/env python3
"""Runs the Python of model cards as a reader would: from another working folder, with transformers and peft.

    scripts/test_card.py --python PYTHON [--w2s PROGRAM]

PYTHON is an interpreter with torch, transformers and peft. An adapter and a wholly trained model of a tiny
llama are made by `w2s train`; the code of each card is run with its prompt filled in, and the first tokens'
log-probabilities must be those of `w2s score` within 1e-4. AutoPeftModel must find the base model by the
adapter's own settings.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIELDS = {"question": "1+1?", "choice": "2"}


def run(*words, cwd):
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: {' '.join(map(str, words))}\n{done.stderr}")
    return done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", required=True)
    parser.add_argument("--w2s", default=str(ROOT / "target/debug/w2s"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="w2s-card-") as name:
        place = Path(name)
        (place / "models").mkdir()
        (place / "models/tiny").symlink_to(ROOT / "tests/parity/llama")
        (place / "elsewhere").mkdir()
        rows = [{"id": str(i), "question": f"{i}+1?", "choice": str(i + 1), "label": i % 2, "consistency_id": i}
                for i in range(6)]
        (place / "claims.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for out, more in [("adapter", []), ("whole", ["--full"])]:
            # A relative path, as one is typed.
            run(arguments.w2s, "train", "--model", "models/tiny", "--task", "gsm8k-verification", "--data",
                "claims.jsonl", "--labels", "gold", "--lr", "1e-2", "--out", out, *more, cwd=place)
            card = (place / out / "README.md").read_text()
            code = re.search(r"```python\n(.*?)```", card, re.S)[1]
            code = code.replace('folder = "."', f"folder = {str(place / out)!r}")
            filled = json.loads(re.search(r"^prompt = (.*)$", code, re.M)[1])
            for field, text in FIELDS.items():
                filled = filled.replace("{" + field + "}", text)
            code = re.sub(r"^prompt = .*$", lambda _: f"prompt = {filled!r}", code, flags=re.M)
            found = run(arguments.python, "-c", code, cwd=place / "elsewhere").splitlines()
            found = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in found}
            asked = {"id": "a", "prompt": filled, "labels": list(found)}
            (place / "prompt.jsonl").write_text(json.dumps(asked) + "\n")
            model = ["--model", "models/tiny", "--adapter", out] if out == "adapter" else ["--model", out]
            ours = json.loads(run(arguments.w2s, "score", *model, "--input", "prompt.jsonl", cwd=place))
            print(f"==> {out}: {found}, w2s {ours}")
            logprobs = ours.get("logprobs", ours)
            for word, theirs in found.items():
                assert abs(logprobs[word] - theirs) < 1e-4, (out, word, logprobs[word], theirs)
        code = ("from peft import AutoPeftModelForCausalLM as M; "
                f"print(type(M.from_pretrained({str(place / 'adapter')!r})).__name__)")
        print("==> by the adapter's own settings:", run(arguments.python, "-c", code, cwd=place / "elsewhere").strip())
    print("==> the code of both cards runs from elsewhere and agrees")


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
