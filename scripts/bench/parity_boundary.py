#!/usr/bin/env python3
"""Where the labels of a question begin, by the tokenizers library alone: tests/parity/boundary/.

    python3 -m venv .setup/bench
    .setup/bench/bin/pip install transformers==5.23.0
    .setup/bench/bin/python scripts/bench/parity_boundary.py

Prompt and label are tokenised as one text. Of every two labels the first differing token is looked for;
the earliest of all is where all labels begin, but no label loses its last token. A label that stands alone
begins at the first token that ends after the prompt. Besides the packaged models' tokenizers there are two
small ones made here: BPE with a dummy blank before the text, as Llama 2 has it, and a unigram model.
"""

import itertools
import json
from pathlib import Path

import tokenizers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

ROOT = Path(__file__).parents[2]
OUT = ROOT / "tests/parity/boundary"

CASES = [
    ("Claim: 1 + 1 = 2\nI think this claim is ", ["True", "False"]),
    ("He lived in the nineteenth century. His century was the ", ["nineteenth", "19"]),
    ("Which option is right, or none? There is no right option.\nAnswer: ", ["none", "1", "2", "3"]),
    ("She has exactly ", ["two", "2"]),
    ("How many? ", ["1", "10"]),
    ("How many? ", ["1", "10", "100", "2"]),
    ("How many?", [" 1", " 10"]),
    ("Which is better? ", ["Response 1", "Response 2"]),
    ("Which is better?\n", ["Response 1", "Response 2", "neither"]),
    ("The number is ", ["-1", "+1", "1"]),
    ("It is ", ["good", "goodness", "good enough"]),
    ("Capital of Japan: ", ["\u6771\u4eac", "Tokyo", "\u4eac\u90fd"]),
    ("\u7b54\u3048\u306f", ["\u6b63\u3057\u3044", "\u6b63\u3057\u304f\u306a\u3044"]),
    ("\u7b54\u3048: ", ["\u732b", "\u72ac"]),
    ("Mood: ", ["\U0001f642", "\U0001f641", "fine"]),
    ("A line\n", ["yes", "no"]),
    ("A line\n\n", ["yes", "42", "(c)"]),
    ("Tab\t", ["yes", "7"]),
    ("Two blanks  ", ["yes", "7"]),
    ("in", ["side", "1"]),
    ("The price is $", ["5", "five", ".50"]),
    ("She said \"", ["yes", "'no'", "\"\""]),
    ("the nineteen", ["th", "-", " 19"]),
    ("Answer: ", ["5"]),
    ("Answer: ", ["none"]),
    ("x", ["<end>", "</s>", "<|im_end|>"]),
]

CORPUS = """Question: which option is right, or none? There is no right option. Answer: none.
He lived in the nineteenth century. She has exactly two cats, 19 dogs and 10 birds, 100 in all.
I think this claim is True. I think this claim is False. Response 1 is better than Response 2. Response 2 is good.
It is good, it is goodness, it is good enough. The number is 1, the number is -1. Capital of Japan: Tokyo.
Which is better? neither. The price is $5, five dollars. inside a line, yes and no. Mood: fine. Tab yes.
""".splitlines() * 4


def llama_like():
    """BPE with byte fallback whose normalizer puts a blank before the text."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    specials = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=560, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.pre_tokenizer = None
    model = json.loads(tokenizer.to_str())
    # Bytes are tokens of the vocabulary, but not spelled in texts.
    model["added_tokens"] = [token for token in model["added_tokens"] if not token["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(model))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    return tokenizer


def unigram():
    """A unigram model with a Metaspace: the likeliest cut of the whole text, which a label can move."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=180, special_tokens=["<unk>"], unk_token="<unk>",
                                      show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def begin(tokenizer, prompt, labels):
    joint = [tokenizer.encode(prompt + label, add_special_tokens=False) for label in labels]
    ids = [encoding.ids for encoding in joint]
    if len(labels) == 1:
        return ids, next(i for i, (_, end) in enumerate(joint[0].offsets) if end > len(prompt))
    if any(a == b for a, b in itertools.combinations(ids, 2)):
        return ids, None
    first = min(next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
                for a, b in itertools.combinations(ids, 2))
    return ids, min(first, min(map(len, ids)) - 1)


def main():
    OUT.mkdir(exist_ok=True)
    for name, made in [("llama-like", llama_like()), ("unigram", unigram())]:
        (OUT / f"{name}.json").write_text(made.to_str() + "\n")
    files = ["models/gemma-3-270m/tokenizer.json", "models/smollm2-135m-instruct/tokenizer.json",
             "tests/parity/llama/tokenizer.json", "tests/parity/boundary/llama-like.json",
             "tests/parity/boundary/unigram.json"]
    rows = []
    for file in files:
        tokenizer = Tokenizer.from_file(str(ROOT / file))
        for prompt, labels in CASES:
            ids, first = begin(tokenizer, prompt, labels)
            rows.append({"tokenizer": file, "prompt": prompt, "labels": labels, "begin": first,
                         "num_tokens": [len(row) - first for row in ids] if first is not None else None,
                         "last": [row[first:] for row in ids] if first is not None else None})
    lines = ",\n".join(json.dumps(row) for row in rows)
    (OUT / "cases.json").write_text(f'{{"tokenizers": "{tokenizers.__version__}", "cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
