#!/usr/bin/env python3
"""Train a weak supervisor on gold, a strong student on its labels in several ways, and a ceiling.

    scripts/weak_to_strong.py --task sentiment --train train.jsonl --test test.jsonl --out runs/w2s

For every seed: a draw of the training file's records, some with gold for the weak supervisor and others
that it labels (over five variants of each question); a student for every way; and every model's answers to
the same test questions. A finished run is not made again, an unfinished one is continued. Prints a table:
accuracy over all seeds, that of each seed, and the performance gap recovered (student - weak) / (ceiling -
weak), with 95 % intervals of a bootstrap that draws test questions and, independently, seeds. Where the
gap's interval holds 0 no share of it is given. Ways of the student:

    naive              all weak labels
    filter             the half with the lowest entropy, as many epochs: half the steps
    filter-longer      the half, as many steps
    reweight           all, weighed by reliability: the share of the variants with that answer, sharpened
    filter+reweight    the half, weighed by reliability
    ceiling            the gold labels of the same questions
"""

import argparse
import json
import random
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WAYS = ("naive", "filter", "filter-longer", "reweight", "filter+reweight", "ceiling")
STUDENTS = ["--lr", "5e-4", "--batch-size", "16", "--epochs"]
SUPERVISOR = ["--lr", "1e-3", "--epochs", "4", "--batch-size", "16"]


def records(file, max_chars):
    """Returns the lines of the file whose text is short enough, each with an id."""
    lines = []
    for number, line in enumerate(file.read_text().splitlines()):
        record = {"id": f"{file.stem}-{number}", **json.loads(line)}
        if sum(len(v) for k, v in record.items() if isinstance(v, str) and k != "id") <= max_chars:
            lines.append(json.dumps(record) + "\n")
    return lines


class Seed:
    """The runs of one seed."""

    def __init__(self, args, seed, lines, test):
        self.args, self.seed, self.test = args, seed, test
        self.out = args.out / f"seed-{seed}"
        self.out.mkdir(parents=True, exist_ok=True)
        drawn = random.Random(seed).sample(lines, args.num_gold + args.num_weak)
        self.gold, self.unlabelled = self.out / "gold.jsonl", self.out / "questions.jsonl"
        for file, part in (self.gold, drawn[:args.num_gold]), (self.unlabelled, drawn[args.num_gold:]):
            if not file.exists():
                file.write_text("".join(part))

    def w2s(self, command, name, *options):
        """Makes the run NAME and returns its folder."""
        out = self.out / name
        subprocess.run([self.args.w2s, *command.split(), "--task", self.args.task, "--out", out,
                        "--resume", "--seed", str(self.seed), *options], check=True)
        return out

    def train(self, name, model, *options):
        out = self.w2s("train", name, "--model", model, *options)
        return self.w2s("label --method zero-shot --calibrate none", f"{name}-test",
                        "--model", model, "--adapter", out, "--data", self.test)

    def all(self):
        weak, strong = self.args.weak, self.args.strong
        questions = ("--data", self.unlabelled)
        self.train("weak", weak, "--data", self.gold, "--labels", "gold", *SUPERVISOR)
        whole = self.w2s("filter --entropy --keep-fraction 1", "weak-labels", "--model", weak,
                         "--adapter", self.out / "weak", *questions)
        half = self.w2s("filter --entropy", "weak-half", *questions, "--from", whole / "answers.jsonl")
        kept, few = whole / "kept.jsonl", half / "kept.jsonl"
        weighted = ("--normalise", "weighted", "--weights")
        ways = {
            "naive": ("--labels", kept),
            "filter": ("--labels", few),
            "filter-longer": ("--labels", few),
            "reweight": ("--labels", kept, *weighted, kept),
            "filter+reweight": ("--labels", few, *weighted, few),
            "ceiling": ("--labels", "gold"),
        }
        for way in self.args.ways:
            self.train(way, strong, *questions, *ways[way], *STUDENTS,
                       "4" if way == "filter-longer" else "2")
        subprocess.run([self.args.w2s, "eval", whole, half, "--gold", self.unlabelled], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", required=True)
    parser.add_argument("--train", type=Path, required=True, help="JSON lines with gold")
    parser.add_argument("--test", type=Path, required=True, help="JSON lines with gold")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--weak", default=str(ROOT / "models/smollm2-135m-instruct"))
    parser.add_argument("--strong", default=str(ROOT / "models/gemma-3-270m"))
    parser.add_argument("--ways", nargs="+", choices=WAYS, metavar="WAY", default=WAYS)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--num-gold", type=int, default=48, help="records the supervisor learns")
    parser.add_argument("--num-weak", type=int, default=240, help="records it labels")
    parser.add_argument("--num-test", type=int, default=300)
    parser.add_argument("--max-chars", type=int, default=120)
    parser.add_argument("--w2s", default=str(ROOT / "target/release/w2s"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    test = args.out / "test.jsonl"
    if not test.exists():
        lines = records(args.test, args.max_chars)
        test.write_text("".join(random.Random(0).sample(lines, args.num_test)))
    lines = records(args.train, args.max_chars)
    for seed in range(args.seeds):
        Seed(args, seed, lines, test).all()
    table(args, test)


def right(args, way, seed, gold):
    """Returns for every test question whether the run's label is the gold one."""
    task = tomllib.loads((ROOT / "data/tasks" / f"{args.task}.toml").read_text())
    names = {str(text): label["name"] for label in task["labels"]
             for text in (label["name"], *label.get("accept", ()))}
    labels = args.out / f"seed-{seed}" / f"{way}-test" / "labels.jsonl"
    read = [json.loads(line) for line in labels.read_text().splitlines()]
    return [names[gold[record["id"]]] == record["label"] for record in read]


def interval(values):
    """Returns the 2.5 and 97.5 percentiles."""
    values = sorted(values)
    return [values[round(share * (len(values) - 1))] for share in (0.025, 0.975)]


def table(args, test, num_resamples=2000):
    ways = ["weak", *args.ways]
    seeds = range(args.seeds)
    records = map(json.loads, test.read_text().splitlines())
    gold = {record["id"]: str(record["label"]) for record in records}
    answers = {way: [right(args, way, seed, gold) for seed in seeds] for way in ways}
    num = len(answers["weak"][0])
    means = {way: [sum(one) / num for one in answers[way]] for way in ways}
    rng, drawn = random.Random(0), {way: [] for way in ways}
    for _ in range(num_resamples):
        items = rng.choices(range(num), k=num)
        # One fewer than there are: the variance of their mean is then that of the seeds over their number.
        chosen = rng.choices(seeds, k=max(args.seeds - 1, 1))
        of_seed = {seed: {way: sum(map(answers[way][seed].__getitem__, items)) / num for way in ways}
                   for seed in set(chosen)}
        for way in ways:
            drawn[way].append(sum(of_seed[seed][way] for seed in chosen) / len(chosen))
    print("| answers by | accuracy, 95 % interval | by seed | PGR |")
    print("|---|---|---|---|")
    mean = {way: sum(means[way]) / args.seeds for way in ways}
    gap = interval([c - w for c, w in zip(drawn["ceiling"], drawn["weak"])]) if "ceiling" in ways else None
    for way in ways:
        low, high = interval(drawn[way])
        share = ""
        if gap and way not in ("weak", "ceiling"):
            if gap[0] > 0:
                share = f"{(mean[way] - mean['weak']) / (mean['ceiling'] - mean['weak']):.2f}"
                ends = interval([(s - w) / (c - w) if c > w else float("inf") for s, w, c in
                                 zip(drawn[way], drawn["weak"], drawn["ceiling"])])
                share += f" [{ends[0]:.2f}, {ends[1]:.2f}]"
            else:
                share = "undefined"
        each = ", ".join(f"{100 * one:.1f}" for one in means[way])
        print(f"| {way} | {100 * mean[way]:.1f} [{100 * low:.1f}, {100 * high:.1f}] | {each} | {share} |")
    if gap:
        print(f"gap between ceiling and weak: {100 * (mean['ceiling'] - mean['weak']):.1f} "
              f"[{100 * gap[0]:.1f}, {100 * gap[1]:.1f}]")


if __name__ == "__main__":
    main()
