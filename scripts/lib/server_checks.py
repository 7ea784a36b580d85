"""What scripts/test_server.py asks of any real server, held against the local scorer."""

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "smollm2-135m-instruct"
NAME = "smollm2"


# Labels of one token and of several, one that no model expects, and prompts that end in a blank or not.
LABELS = [["True", "False"], ["yes, I think", "no"], [" zebra", " True"]]


def hard_questions():
    rows = []
    for i, labels in enumerate(LABELS):
        for end in (" ", ""):
            words = [label.strip() if end else " " + label.strip() for label in labels]
            prompt = f"Claim: {i} + {i} = {2 * i}\nThis claim is{end}"
            rows.append({"id": f"hard {i}{end}", "prompt": prompt, "labels": words})
    return rows


def ways_to_name(w2s, server, place, local):
    """Compares the route token-ids, and top-k where labels are far down, with the local scorer."""
    data = place / "hard.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in hard_questions()))
    ours, _ = score(w2s, MODEL, data, *local)
    model = f"{server.url}#{NAME}"
    off = ["--response-cache", "off"]
    for tokens in ([], ["--tokenizer", MODEL]):
        found, said = score(w2s, model, data, *off, *tokens)
        if "route token-ids (exact, by grammar)" not in said:
            sys.exit(f"error: expected the route token-ids by grammar:\n{said}")
        compare(f"f32 throughout, token-ids by grammar {' '.join(map(str, tokens[:1]))}", ours, found, 1e-3, 5e-4)
    found, said = score(w2s, model, data, *off, "--route", "top-k", "--tokenizer", MODEL, "--max-misses", 0)
    compare("f32 throughout, top-k at its defaults", ours, found, 1e-3, 5e-4)


def passes(w2s, model, place, num, *more):
    """Labels `num` sums, each behind the others; returns log-probabilities by id and label, and what a server did."""
    data = place / f"sums-{num}.jsonl"
    rows = [f"{i // 8} + {i % 8} = {i // 8 + i % 8}" for i in range(num)]
    data.write_text("".join(json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(rows)))
    with tempfile.TemporaryDirectory(dir=place) as out:
        command = [w2s, "label", "--method", "few-shot-random", "--trees", 1, "--task", "sentiment", "--data", data,
                   "--calibrate", "none", "--model", model, "--force", "--out", Path(out) / "run", *more]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"error: {' '.join(map(str, command))}\n{done.stderr}")
        rows = [json.loads(line) for line in (Path(out) / "run/labels.jsonl").read_text().splitlines()]
        server = Path(out) / "run/server.json"
        spent = json.loads(server.read_text())["spent"] if server.exists() else None
    return {row["id"]: row["logprobs"] for row in rows}, spent


def table(w2s, server, place, num, local, routes):
    """Prints what each route asks for a pass over `num` sums, each behind the others, and how near it is."""
    ours, _ = passes(w2s, MODEL, place, num, *local)
    print(f"| server | route, N = {num} | requests | tokens sent | computed by the server | largest difference, nats |")
    print("|---|---|---|---|---|---|", flush=True)
    for route in routes:
        found, spent = passes(w2s, f"{server.url}#{NAME}", place, num, "--route", route, "--tokenizer", MODEL,
                              "--response-cache", "off")
        computed = spent["tokens_in"] - spent["tokens_in_remembered"]
        worst = max(abs(ours[i][label] - found[i][label]) for i in ours for label in ours[i])
        print(f"| {server.name} | {route} | {spent['num_requests']:,} | {spent['tokens_in']:,} | {computed:,} "
              f"| {worst:.6f} |", flush=True)
        if route == "token-ids" and 3 * computed > spent["tokens_in"]:
            sys.exit("error: the server's prefix cache is not read")


def questions():
    rng = random.Random(1)
    rows = []
    # Few and short: llama-cpp-python sorts its whole vocabulary for every token that it echoes.
    for i in range(8):
        a, b = rng.randint(2, 9), rng.randint(2, 9)
        said = a + b if i % 2 else a + b + 3
        prompt = f"{a} + {b} = {said}\nThis is "
        rows.append({"id": str(i), "prompt": prompt, "labels": ["True", "False"]})
    return rows


def score(w2s, model, data, *more):
    """Returns log-probabilities by question and label, and what was said."""
    command = [str(w2s), "score", "--model", str(model), "--input", str(data), *map(str, more)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(command)}\n{done.stderr}")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {row["id"]: row["logprobs"] for row in rows}, done.stderr


def refused(w2s, model, data, *more):
    """Returns the error of a command that must fail."""
    command = [str(w2s), "score", "--model", str(model), "--input", str(data), *map(str, more)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 1:
        sys.exit(f"error: {' '.join(command)} ends with {done.returncode}, expected 1\n{done.stderr}")
    return done.stderr


def label(w2s, model, place, *more):
    """Returns the labels and margins of the demo's reviews by their ids."""
    command = [w2s, "label", "--method", "zero-shot", "--calibrate", "none", "--task", "sentiment",
               "--data", ROOT / "data/demo/reviews.jsonl", "--limit", 16, "--model", model, "--out", place]
    done = subprocess.run([str(part) for part in [*command, *more]], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(map(str, command))}\n{done.stderr}")
    rows = [json.loads(line) for line in (place / "labels.jsonl").read_text().splitlines()]
    return {row["id"]: (row["label"], row["margin"]) for row in rows}


def same_labels(ours, theirs, most):
    sure = [i for i in ours if abs(ours[i][1]) > 2 * most]
    other = [i for i in sure if ours[i][0] != theirs[i][0]]
    print(f"labels: {len(sure)} of {len(ours)} reviews have margins above {2 * most}, "
          f"{len(sure) - len(other)} of them the same label", flush=True)
    if other or not sure:
        sys.exit(f"error: the server's labels differ: {other}")


def compare(name, ours, theirs, most, mean):
    gaps = [abs(ours[i][label] - theirs[i][label]) for i in ours for label in ours[i]]
    worst, average = max(gaps), sum(gaps) / len(gaps)
    print(f"{name}: largest difference {worst:.6f} nats (at most {most}), mean {average:.6f}", flush=True)
    if worst > most or average > mean:
        sys.exit(f"error: {name}: the server's log-probabilities are not the local scorer's")
    for i in ours:
        best = [max(scores[i], key=scores[i].get) for scores in (ours, theirs)]
        first, second = sorted(ours[i].values(), reverse=True)[:2]
        margin = first - second
        if best[0] != best[1] and margin > 2 * most:
            sys.exit(f"error: {name}: question {i} is {best[0]} here and {best[1]} there")
