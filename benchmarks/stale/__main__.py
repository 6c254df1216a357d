"""How stale answers are, beside the caches that people use, and what following changes costs them.

    python -m benchmarks.stale [--seconds 6] [--caches neverstale,...] [--json FILE] [--docs]

The same stretch of real work (the demo's week of flights, from its Monday on) for each cache, on servers of its own:
`load`; then each part is killed (SIGKILL) and started again after a second; then Redis is flushed; then a backlog is
worked off: all changes of the week, written while whoever follows them was halted.

An answer is *stale* if what it shows had been replaced more than a second before it was asked for. What *stays* is
still shown when all parts run again and nothing was corrected for twelve seconds. Ours says with each answer how old
it can be; a stale answer that says so is not counted among those that did not.

Each cache has five minutes. With `--docs` the table in docs/performance.md and docs/images/stale.svg are written.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.parts import WRONG
from benchmarks.stale.caches import CACHES
from benchmarks.stale.report import plot, table
from neverstale.ops.stack.process import PROJECT, python

CACHE_SECONDS: Final = 300.0
BEGIN: Final = "<!-- The table is written by `make bench-peers`. -->"
END: Final = "<!-- End of the table. -->"
PAGE: Final = PROJECT / "docs" / "performance.md"
PLOT: Final = PROJECT / "docs" / "images" / "stale.svg"


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all has figures; 1: something failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stale", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--caches", help=f"some of: {', '.join(CACHES)}")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--docs", action="store_true")
    given = parser.parse_args(arguments)
    names = [name for name in CACHES if given.caches is None or name.split()[0].strip(",") in given.caches.split(",")]
    found = {name: run(name, given.seconds) for name in names}
    print(table(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    if given.docs:
        PAGE.write_text(with_figures(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
        PLOT.write_text(plot(found), encoding="utf-8")
    return 1 if any(failures(one) for one in found.values()) else 0


def run(name: str, seconds: float) -> Mapping[str, Any]:
    """What one cache shows, in a process of its own; what it found before it failed is kept."""
    print(f"\n{name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        argv = python("benchmarks.stale.one", name, "--json", str(file), "--seconds", str(seconds))
        try:
            ended = subprocess.run(argv, cwd=PROJECT, check=False, timeout=CACHE_SECONDS).returncode
            why = f"it ended with {ended}" if ended else None
        except subprocess.TimeoutExpired:
            why = f"it was not done within {CACHE_SECONDS:g} s"
        found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return found if why is None or WRONG in found else {**found, WRONG: why}


def failures(found: Mapping[str, Any]) -> list[str]:
    """What has no figures."""
    return [name for name, phase in found.get("phases", {}).items() if WRONG in phase] + [WRONG] * (WRONG in found)


def with_figures(document: str, found: Mapping[str, Mapping[str, Any]]) -> str:
    """The document with the table between its markers."""
    head, begin, rest = document.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document lacks {BEGIN!r} or {END!r}")
    when = time.strftime("%Y-%m-%d")
    picture = "![Stale answers of each cache](images/stale.svg)"
    return f"{head}{BEGIN}\n\nMeasured on {when}.\n\n{table(found)}\n\n{picture}\n\n{END}{tail}"


if __name__ == "__main__":
    sys.exit(main())
