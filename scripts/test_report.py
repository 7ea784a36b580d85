#!/usr/bin/env python3
"""Opens the pages of `w2s report` and `w2s audit` in a headless Chromium and uses them as a reader would.

    scripts/test_report.py                        runs of tiny models, made by target/debug/w2s
    scripts/test_report.py PAGE.html...           any pages: errors, network, pictures, schemes only
    scripts/test_report.py --pictures DIR ...     writes PNG files of what was seen

W2S_CHROMIUM names the browser; scripts/lib/chromium.py says what is done without. Where no browser can be
had the test says so and ends well, unless --require (or CI=true) asks for it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "scripts/lib"))

from browser import Browser, BrowserError  # noqa: E402
from chromium import Unavailable, chromium  # noqa: E402

HOSTILE = "<script>document.title='x'</script><img src=x onerror=alert(1)> & \u2028 </script>"
DESKTOP, PHONE = (1280, 900), (390, 844)
MAX_DRAW_SECONDS = 2.0
NUM_MANY = 10_000
NUM_FIGURES = 10


def say(words):
    """One line about what happens."""
    print(f"==> {words}", flush=True)


def expect(condition, words):
    """Ends the test where a condition does not hold."""
    if not condition:
        raise SystemExit(f"error: {words}")


def equal(found, expected, what):
    """Ends the test where a value is another than expected."""
    expect(found == expected, f"{what}: expected {expected!r}, got {found!r}")


def w2s(*words, cwd):
    """Runs the program, which must do well."""
    program = os.environ.get("W2S") or str(ROOT / "target/debug/w2s")
    expect(Path(program).exists(), f"`{program}` is missing; `cargo build` makes it")
    done = subprocess.run([program, *words], cwd=cwd, capture_output=True, text=True, timeout=120)
    expect(done.returncode == 0, f"w2s {' '.join(words)}:\n{done.stderr}")
    return done


def make_runs(box):
    """Run folders of every kind on a tiny model, their gold, and a page of them."""
    model = str(ROOT / "tests/parity/llama")
    lines = (ROOT / "data/demo/reviews.jsonl").read_text(encoding="utf-8").splitlines()[:12]
    records = [json.loads(line) for line in lines]
    records[3]["text"] = HOSTILE
    text = "".join(json.dumps(record) + "\n" for record in records)
    (box / "reviews.jsonl").write_text(text, encoding="utf-8")
    gold = str(ROOT / "data/demo/reviews.gold.jsonl")
    common = ["--model", model, "--task", "sentiment", "--data", "reviews.jsonl", "--device", "cpu"]

    def run(*words):
        w2s(*words, cwd=box)

    run("label", *common, "--out", "icm", "--iterations", "15")
    run("label", *common, "--out", "zero", "--method", "zero-shot")
    run("filter", "--entropy", *common, "--out", "weak")
    run("eval", "--gold", gold, "icm", "zero", "weak")
    run("train", *common, "--labels", "icm/labels.jsonl", "--out", "student", "--epochs", "2")
    rounds = ["--set", "label.iterations=8", "--set", "train.epochs=1"]
    run("loop", *common, "--out", "rounds", "--batches", "2", "--held-out", "0.25", *rounds)
    run("eval", "--gold", gold, "rounds")
    run("compare", "--gold", gold, "--method", "zero=zero", "--method", "icm=icm", "--out", "methods")
    runs = ["icm", "zero", "weak", "student", "rounds", "methods"]
    run("report", *runs, "--gold", gold, "--out", "page")
    pictures = [path.stem for path in (box / "page").glob("*.svg")]
    expect(len(pictures) == NUM_FIGURES, f"figures as files: {sorted(pictures)}")
    for stem in pictures:
        expect((box / f"page/{stem}.png").stat().st_size > 5000, f"`{stem}.png` is no picture")
    return box / "page/report.html", records


class Checks:
    """The checks of one page."""

    def __init__(self, page, path, pictures):
        self.page = page
        self.path = path
        self.pictures = pictures

    def look(self, name, size, scheme):
        """Opens the page in a size and scheme; it must be quiet, and wider than nothing in it."""
        self.page.look(*size, scheme)
        self.page.open(self.path.resolve().as_uri())
        equal(self.page.complaints(), [], f"{name}: errors in the console")
        asked = [url for url in self.page.requests() if not url.startswith("data:")]
        equal(asked, [self.path.resolve().as_uri()], f"{name}: what the page asked for")
        wide = self.page.run("document.documentElement.scrollWidth")
        expect(wide <= size[0], f"{name}: the page is {wide} wide in a window of {size[0]}")
        if self.pictures:
            time.sleep(0.1)
            self.page.picture(self.pictures / f"{self.path.parent.name}-{name}.png", whole=True)

    def figures(self):
        """Every picture has a size, a name and something drawn in it."""
        found = self.page.run(
            "[...document.querySelectorAll('figure svg')].map(svg => {"
            " const box = svg.getBoundingClientRect();"
            " return [box.width, box.height, svg.getAttribute('aria-label') || '', svg.children.length]; })"
        )
        expect(found, "the page has no figure")
        for width, height, label, num in found:
            expect(width > 100 and height > 100, f"a figure is {width} x {height}")
            expect(len(label) > 10 and num > 5, f"a figure says `{label}` and has {num} parts")
        ids = "[...document.querySelectorAll('[id]')].map(node => node.id)"
        twice = self.page.run(f"{ids}.filter((id, i, all) => all.indexOf(id) !== i)")
        equal(twice, [], "ids that are there twice")
        return len(found)

    def ground(self):
        """The colours of page, text and figures as drawn."""
        return self.page.run(
            "(() => { const of = (node, key) => getComputedStyle(node)[key];"
            " const svg = document.querySelector('figure svg');"
            " return [of(document.body, 'backgroundColor'), of(document.body, 'color'),"
            " of(svg.querySelector('rect'), 'fill'), of(svg.querySelector('text'), 'fill')]; })()"
        )

    def schemes(self):
        """Light and dark differ and can be read, by the system's wish and by the button."""
        self.look("light", DESKTOP, "light")
        num = self.figures()
        light = self.ground()
        self.page.run("document.querySelector('#theme').click()")
        toggled = self.ground()
        self.look("dark", DESKTOP, "dark")
        dark = self.ground()
        equal(toggled, dark, "colours behind the button")
        for ground, ink in [light[:2], light[2:], dark[:2], dark[2:]]:
            ratio = contrast(ground, ink)
            expect(ratio >= 7, f"contrast of {ink} on {ground} is {ratio:.1f}, expected 7")
        expect(luminance(light[0]) > 0.8 > 0.1 > luminance(dark[0]), f"{light[0]} and {dark[0]}")
        self.look("phone", PHONE, "light")
        self.figures()
        self.page.look(*DESKTOP, "dark", media="print")
        equal(luminance(self.ground()[0]) > 0.8, True, "paper is light also where the screen is dark")
        return num


def channels(color):
    """Red, green and blue of `rgb(1, 2, 3)`, 0 to 1."""
    return [float(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]


def luminance(color):
    """The relative luminance of WCAG 2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels(color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """The contrast ratio of WCAG 2."""
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


CELLS = "[...document.querySelectorAll('#ex-body tr.row')].map(tr => [...tr.cells].map(td => td.textContent))"
HEADS = "[...document.querySelectorAll('#ex-head th')].map(th => th.textContent)"


def pick(page, id, value):
    """Chooses an entry of a list of the table."""
    page.run(
        f"(() => {{ const list = document.getElementById('{id}'); list.value = {json.dumps(value)};"
        " list.dispatchEvent(new Event('change')); })()"
    )


def find(page, words):
    """Types into the search field and waits for the table."""
    page.run(
        "new Promise(done => { const field = document.getElementById('ex-find');"
        f" field.value = {json.dumps(words)}; field.dispatchEvent(new Event('input')); setTimeout(done, 250); }})"
    )


def check_table(checks, records):
    """The table shows, finds, filters, sorts and unfolds the examples, hostile ones as text."""
    page = checks.page
    checks.look("table", DESKTOP, "light")
    heads, cells = page.run(HEADS), page.run(CELLS)
    equal(len(cells), len(records), "rows")
    lines = "[...document.querySelectorAll('#ex-body tr.row')].map(tr => new Set([...tr.cells].map(td => td.offsetTop)).size)"
    equal(set(page.run(lines)), {1}, "lines that the cells of a row stand in")
    for name in ["id", "text", "label", "probability", "margin (nats)", "flips", "gold", "right"]:
        expect(name in heads, f"column `{name}` is missing in {heads}")
    equal(sorted(row[0] for row in cells), sorted(record["id"] for record in records), "ids")
    expect(any(HOSTILE.split("\u2028")[0].strip() in row[1] for row in cells), "the hostile text is not shown")
    expect("x" != page.run("document.title"), "a text ran as a script")
    equal(page.run("document.querySelectorAll('#examples img, #examples script').length"), 0, "elements")

    place = heads.index("margin (nats)")
    numbers = lambda: [float(row[place].replace("\u2212", "-")) for row in page.run(CELLS)]  # noqa: E731
    page.run(f"document.querySelectorAll('#ex-head button')[{place}].focus()")
    page.press("Enter", 13, "\r")
    expect(numbers() == sorted(numbers()), f"margins do not rise: {numbers()}")
    page.press("Enter", 13, "\r")
    expect(numbers() == sorted(numbers(), reverse=True), f"margins do not fall: {numbers()}")
    sorted_by = f"document.querySelectorAll('#ex-head th')[{place}].getAttribute('aria-sort')"
    equal(page.run(sorted_by), "descending", "aria-sort")

    find(page, "onerror <SCRIPT")
    equal([row[0] for row in page.run(CELLS)], [records[3]["id"]], "what a search finds")
    equal(page.run("document.getElementById('ex-count').textContent"), f"1 of {len(records)} examples", "count")
    page.run("document.querySelector('#ex-body .open').click()")
    equal(page.run("document.querySelector('#ex-body .full').textContent.includes('onerror=alert(1)')"), True, "text")
    equal(page.run("document.querySelector('#ex-body .open').getAttribute('aria-expanded')"), "true", "unfolded")
    find(page, "nothing like it")
    equal(page.run(CELLS), [], "rows that hold no such words")
    find(page, "")

    label, right = heads.index("label"), heads.index("right")
    every = page.run(CELLS)
    pick(page, "ex-label", "0")
    some = page.run(CELLS)
    equal(sorted(some), sorted(row for row in every if row[label] == "negative"), "rows of a label")
    pick(page, "ex-label", "")
    for which in ["right", "wrong"]:
        pick(page, "ex-show", which)
        equal(sorted(page.run(CELLS)), sorted(row for row in every if row[right] == which), which)
    pick(page, "ex-run", "2")
    heads = page.run(HEADS)
    for name in ["entropy (nats)", "weight", "filter"]:
        expect(name in heads, f"column `{name}` is missing in {heads}")
    page.run("document.querySelector('#ex-body .open').click()")
    said = page.run("document.querySelector('#ex-body .meta').textContent")
    expect("Answers to the variants" in said, f"no answers in: {said}")
    equal(page.complaints(), [], "errors in the console")


def check_many(checks, box):
    """Ten thousand examples are shown, sorted and searched without a wait."""
    html = checks.path.read_text(encoding="utf-8")
    before, rest = html.split('<script type="application/json" id="example-data">')
    data, after = rest.split("</script>", 1)
    data = json.loads(data)
    rows = data["tables"][0]["rows"]
    data["tables"] = [{**data["tables"][0], "rows": [{**rows[i % len(rows)], "i": f"n{i}"} for i in range(NUM_MANY)]}]
    text = json.dumps(data).replace("<", "\\u003c")
    path = box / "many.html"
    path.write_text(f'{before}<script type="application/json" id="example-data">{text}</script>{after}', "utf-8")
    many = Checks(checks.page, path, None)
    start = time.monotonic()
    many.look("many", DESKTOP, "light")
    opened = time.monotonic() - start
    times = [
        checks.page.run(
            f"(() => {{ const start = performance.now(); document.querySelectorAll('#ex-head button')[{i}].click();"
            " document.body.getBoundingClientRect(); return performance.now() - start; })()"
        )
        for i in range(4)
    ]
    equal(len(checks.page.run(CELLS)), 50, "rows of a page")
    find(checks.page, f"n{NUM_MANY - 1}")
    equal(len(checks.page.run(CELLS)), 1, "rows found among many")
    slowest = max(times) / 1000
    expect(slowest < MAX_DRAW_SECONDS, f"sorting {NUM_MANY} rows took {slowest:.1f} s")
    say(f"{NUM_MANY} examples: opened in {opened:.2f} s, sorted in {slowest:.2f} s at most")


def check_sheet(page, box, pictures):
    """The page of an audit: answers by click and key, nothing of the model's label before, a file that counts."""
    w2s("audit", "draw", "zero", "--guarantee", "0.5@0.9", "--budget", "8", "--share", "0.9",
        "--error-rate", "0.3", cwd=box)
    sheet = Checks(page, box / "zero/audit/1/sheet.html", pictures)
    for name, size, scheme in [("sheet-light", DESKTOP, "light"), ("sheet-dark", DESKTOP, "dark"),
                               ("sheet-phone", PHONE, "light")]:
        sheet.look(name, size, scheme)
    plan = json.loads((box / "zero/audit/1/plan.json").read_text(encoding="utf-8"))
    labels = (box / "zero/labels.jsonl").read_text(encoding="utf-8").splitlines()
    labels = {row["id"]: row["label"] for row in map(json.loads, labels)}
    rows = plan["rows"]
    equal(page.run("document.title"), "w2s audit", "title of the sheet")
    said = "document.querySelector('#said').textContent"
    right = {row: labels[row] for row in rows}
    right[rows[1]] = "?"
    for i, row in enumerate(rows):
        equal(page.run(said), "", "what the sheet says before an answer")
        choices = page.run("[...document.querySelectorAll('#choices button')].map(b => b.lastChild.textContent)")
        equal(choices, ["negative", "positive", "cannot tell"], "choices")
        at = {"?": 2}.get(right[row], choices.index(right[row]) if right[row] != "?" else 2)
        page.run(f"document.querySelectorAll('#choices button')[{at}].click()")
        expect(page.run(said).startswith(f"The model's label: {labels[row]}"), "the label behind an answer")
        if i == 0 and pictures:
            page.picture(pictures / "sheet-answered.png", whole=True)
        page.run("document.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}))")
    equal(page.run("document.querySelector('#bar').value"), len(rows), "rows answered")
    page.run("URL.createObjectURL = (blob) => { window.saved = blob; return 'data:,'; }")
    page.run("document.querySelector('#save').click()")
    page.run("window.saved.text().then((text) => { window.text = text; })")
    time.sleep(0.2)
    (box / "answers.csv").write_text(page.run("window.text"), encoding="utf-8")
    done = w2s("audit", "certify", "zero", "--answers", "answers.csv", cwd=box)
    expect(f"1 of {len(rows)} audited labels are wrong" in done.stdout, done.stdout)
    say(f"sheet.html: {len(rows)} rows answered, saved and certified")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", type=Path, metavar="PAGE.html")
    parser.add_argument("--pictures", type=Path, metavar="DIR")
    parser.add_argument("--require", action="store_true", help="fail where there is no browser")
    args = parser.parse_args()
    try:
        program, environment = chromium(say)
    except Unavailable as error:
        say(f"NOT RUN: the report was not opened in a browser: {error}")
        return int(args.require or os.environ.get("CI") == "true")
    if args.pictures:
        args.pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="w2s-report-") as name:
        box = Path(name)
        path, records = (None, []) if args.pages else make_runs(box)
        with Browser(program, environment) as browser:
            page = browser.page()
            for one in args.pages or [path]:
                num = Checks(page, one, args.pictures).schemes()
                expect(args.pages or num == NUM_FIGURES, f"the page has {num} figures")
                say(f"{one.name}: {num} figures, light, dark, phone and paper")
            if path:
                check_table(Checks(page, path, None), records)
                check_many(Checks(page, path, None), box)
                check_sheet(page, box, args.pictures)
    say("the pages open without an error, ask for nothing, and what is in them works")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrowserError as error:
        sys.exit(f"error: {error}")
