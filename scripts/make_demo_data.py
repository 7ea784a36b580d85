#!/usr/bin/env python3
"""Writes data/demo: reviews in contrast pairs and headlines, with their gold labels apart.

All sentences were written for this project and are under its licence, Apache-2.0. The two reviews
of a pair are of the same thing with opposite verdicts. Order, ids, pair ids and sides are drawn
with a fixed seed so that none of them tells a label: side `a` is the positive one in exactly half
of the pairs.

    python3 scripts/make_demo_data.py            # writes data/demo
    python3 scripts/make_demo_data.py --check    # exit 1 if data/demo differs
"""

import argparse
import json
import random
import sys
from pathlib import Path

SEED = 20260301

# (positive, negative), each pair on one thing: films in the plain words of film reviews, then
# everyday things where the verdict has to be understood.
REVIEWS = [
    ("A clever, thrilling heist film with a wonderful final twist.",
     "A dull heist film whose silly twist ruins what little works."),
    ("Charming and funny, this romance leaves you smiling for days.",
     "The leads have no chemistry and the romance is painfully flat."),
    ("A truly frightening ghost story, told with rare skill.",
     "The ghost story is laughable, and not once is it scary."),
    ("The war drama is honest, moving and superbly photographed.",
     "A hollow war drama, full of cliches and empty speeches."),
    ("Children and parents alike will love this delightful cartoon.",
     "A lifeless cartoon that will bore children and annoy parents."),
    ("A rich portrait of the singer, with a brilliant lead performance.",
     "The singer deserved better than this shallow and clumsy portrait."),
    ("One of the funniest comedies of the year, sharp and warm.",
     "I did not laugh once during this lazy, tired comedy."),
    ("A fascinating documentary that opens your eyes and your heart.",
     "The documentary is tedious, confused and far too long."),
    ("Gripping from first to last, a courtroom drama of real intelligence.",
     "The courtroom scenes drag on, and the plot makes no sense."),
    ("A tense, elegant thriller that keeps you guessing.",
     "The thriller gives everything away early and then just limps along."),
    ("The rye bread here is worth crossing the whole town for.",
     "Yesterday's rolls at today's prices; the bakery should be ashamed."),
    ("The plumber came within the hour, fixed the leak and swept up after.",
     "Since the plumber left, we have two leaks where there was one."),
    ("Two dogs and a white carpet, and this vacuum copes with all of it.",
     "The vacuum roars like a jet and leaves the crumbs exactly where they were."),
    ("The tomato soup tasted of late summer and I scraped the bowl.",
     "Their tomato soup was lukewarm and tasted mostly of the tin."),
    ("The queue at the noodle bar is long, and worth every minute.",
     "Gluey noodles, grey pork, and a bill that made us laugh bitterly."),
    ("Even my teenagers ask for another round of this board game.",
     "Forty minutes of rules, and the board game ended in a draw nobody wanted."),
]

HEADLINES = {
    "business": [
        "Furniture maker cuts profit forecast as timber prices climb",
        "Regional bank agrees to buy smaller rival for shares",
        "Coffee chain to open sixty shops despite weaker sales",
        "Shipping group raises freight rates for third time this year",
        "Union and carmaker reach pay deal after two-week strike",
        "Investors cheer as toy company returns to the black",
        "Supermarket drops own-brand prices to win back customers",
        "Central bank holds interest rates and hints at spring cut",
        "Start-up that rents tools to neighbours raises fresh funding",
        "Airline orders forty jets in bet on business travel",
        "Chief executive of paper mill resigns over accounting error",
        "House builders report first rise in orders since autumn",
        "Online grocer to close two warehouses and shed staff",
        "Regulator fines insurer for misleading small firms",
        "Wine exporters look east as tariffs bite",
        "Family brewery sold to overseas group after five generations",
    ],
    "science": [
        "Deep-sea survey finds dozens of unnamed worms near vents",
        "Astronomers spot a planet with a day longer than its year",
        "Ancient pollen shows the valley was once a forest",
        "New battery chemistry survives ten thousand charges in the lab",
        "Crows remember unfair trades for a month, experiment shows",
        "Space probe sends back first close pictures of a comet",
        "Researchers grow bone tissue on a scaffold made of seaweed",
        "Ice core holds a record of the driest century yet known",
        "Physicists weigh the neutrino more closely than before",
        "Bees find their way by magnetic cues on cloudy days, study suggests",
        "Fossil jaw pushes the origin of frogs back five million years",
        "Bacteria engineered to eat plastic pass their first field test",
        "Telescope detects faint radio pulses from a dead star",
        "Gene that helps rice stand floods is found in wild grass",
        "Volcano's tremors follow the tides, geologists report",
        "Trial of malaria vaccine shows protection lasting two seasons",
    ],
    "sports": [
        "Late header sends the underdogs into the cup final",
        "Teenager wins downhill by a hundredth of a second",
        "Captain out for six weeks with a torn hamstring",
        "Rain delays third day of the test with hosts in command",
        "Marathon champion to defend her title in the autumn",
        "Goalkeeper saves three penalties in a shoot-out to remember",
        "Veteran guard scores forty as the home side ends losing run",
        "Coach dismissed after seven straight defeats",
        "Cyclist takes the leader's jersey on a brutal mountain stage",
        "Relay squad breaks a national record that stood since 1988",
        "Striker turns down a move abroad to stay with boyhood club",
        "Tennis qualifier stuns the top seed in straight sets",
        "Rowers seal gold with a furious final sprint",
        "League to test video review for offside calls next season",
        "Young gymnast lands a vault never tried in competition",
        "Defence holds firm as visitors escape with a goalless draw",
    ],
}


def reviews(rng):
    """Returns records and gold labels of the reviews."""
    num_pairs = len(REVIEWS)
    positive_is_a = [True] * (num_pairs // 2) + [False] * (num_pairs - num_pairs // 2)
    rng.shuffle(positive_is_a)
    names = [f"pair-{number:02}" for number in range(1, num_pairs + 1)]
    rng.shuffle(names)
    rows = []
    for (positive, negative), name, a in zip(REVIEWS, names, positive_is_a):
        rows.append((positive, name, "a" if a else "b", "positive"))
        rows.append((negative, name, "b" if a else "a", "negative"))
    rng.shuffle(rows)
    records, gold = [], []
    for number, (text, name, side, label) in enumerate(rows, 1):
        identity = f"r-{number:02}"
        records.append({"id": identity, "text": text, "group": name, "side": side})
        gold.append({"id": identity, "label": label})
    return records, gold


def headlines(rng):
    """Returns records and gold labels of the headlines."""
    rows = [(text, label) for label, texts in HEADLINES.items() for text in texts]
    rng.shuffle(rows)
    records, gold = [], []
    for number, (text, label) in enumerate(rows, 1):
        identity = f"h-{number:02}"
        records.append({"id": identity, "text": text})
        gold.append({"id": identity, "label": label})
    return records, gold


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "data" / "demo")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    args = parser.parse_args()
    files = {}
    for name, make in (("reviews", reviews), ("headlines", headlines)):
        # One stream a file: a sentence more in one does not reorder the other.
        records, gold = make(random.Random(f"{SEED} {name}"))
        files[f"{name}.jsonl"] = records
        files[f"{name}.gold.jsonl"] = gold
    differing = []
    for name, rows in files.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        path = args.out / name
        if args.check:
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                differing.append(name)
        else:
            args.out.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
    if differing:
        sys.exit(f"differs from this script: {', '.join(differing)}")


if __name__ == "__main__":
    main()
