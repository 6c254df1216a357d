"""`make fuzz`: every target for some seconds, guided by coverage where atheris is installed; what breaks one is kept.

python -m tests.fuzz [TARGET ...] [--seconds N] [--seed N]

Without atheris (https://github.com/google/atheris, `pip install atheris`) mutations of the corpus are tried, which
find less. Exit code 1: something broke; its bytes are in tests/fuzz/corpus, and CI tries them from now on.
"""

import argparse
import importlib.util
import subprocess
import sys
import time
from hashlib import blake2b
from pathlib import Path
from random import Random

from tests.fuzz.corpus import FOLDER, seeds
from tests.fuzz.mutation import mutated
from tests.fuzz.targets import TARGETS


def blindly(name: str, seconds: float, seed: int) -> int:
    """Try mutations; returns how many."""
    known, dice, until, tried = seeds(name), Random(seed), time.monotonic() + seconds, 0
    while time.monotonic() < until:
        data = mutated(dice, known)
        tried += 1
        try:
            TARGETS[name](data)
        except Exception as error:
            print(f"{name}: broken by {kept(name, data)}: {type(error).__name__}: {error}")
            raise SystemExit(1) from error
    return tried


def kept(name: str, data: bytes) -> Path:
    path = FOLDER / name / blake2b(data, digest_size=8).hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def guided(name: str, seconds: float, seed: int) -> int:
    """Let atheris run in a process of its own, which it ends itself."""
    script = (
        "import sys, atheris\n"
        "with atheris.instrument_imports(include=['neverstale']):\n"
        "    from tests.fuzz.targets import TARGETS\n"
        f"atheris.Setup(sys.argv, TARGETS[{name!r}])\n"
        "atheris.Fuzz()\n"
    )
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    for data in seeds(name):
        kept(name, data)
    options = (f"-max_total_time={seconds:g}", f"-seed={seed}", f"-artifact_prefix={folder}/", "-max_len=4096")
    return subprocess.run([sys.executable, "-c", script, str(folder), *options], check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    parser.add_argument("--seconds", type=float, default=60, help="of all targets together")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    names = options.targets or sorted(TARGETS)
    is_guided = importlib.util.find_spec("atheris") is not None
    broken = 0
    for name in names:
        share = options.seconds / len(names)
        if is_guided:
            broken += guided(name, share, options.seed) != 0
        else:
            print(f"{name}: {blindly(name, share, options.seed):,} inputs, nothing broke", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
