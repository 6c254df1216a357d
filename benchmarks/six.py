"""README's six numbers, each a ratio within one run.

    python -m benchmarks.six [--json FILE] [--docs]

Three benchmarks, one after the other, each in a process of its own: reads and what puts pressure on them
(`benchmarks.read`), capture, latency. What one of them does not find is said, and stays in README as it is. With
`--docs` the numbers and their day are written there. It wants `wrk` and, on a quiet machine, some five minutes.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks import read
from benchmarks.parts import WRONG, reason
from neverstale.ops.stack.process import PROJECT, python

NAIVE: Final = "FastAPI + redis.get"
TIMES: Final = "\N{MULTIPLICATION SIGN}"
README: Final = PROJECT / "README.md"
RUN_SECONDS: Final = 330.0
KILL_SECONDS: Final = RUN_SECONDS + 90.0
"""For one that does not keep to its time."""
RUNS: Final[Mapping[str, Sequence[str]]] = {
    "read": ("--rows", "raw,L1,L2,naive", "--rounds", "5", "--parts", "misses,stampede"),
    "capture": (),
    "latency": ("--rates", "50", "--seconds", "10"),
}
DAY: Final = re.compile(r"One machine, one day \(\d+ cores, \d{4}-\d\d-\d\d\)")

Found = Mapping[str, Any]
"""What a benchmark wrote, or why it wrote nothing."""


def _beside(found: Found, name: str, other: str) -> float:
    """How many times as fast, in the median of the rounds."""
    loads = {row["row"]["name"]: row["loads"] for row in found["rows"]}
    ours, theirs = loads[name], loads[other]
    return float(median(ours[at]["per_second"] / theirs[at]["per_second"] for at in ours.keys() & theirs.keys()))


def _memory(found: Found) -> str:
    naive, raw = _beside(found, read.L1, NAIVE), _beside(found, read.L1, read.BASELINE)
    return f"{naive:.0f} {TIMES} FastAPI with `redis.get`, {raw:.1f} {TIMES} a constant answer of raw ASGI"


def _redis(found: Found) -> str:
    return f"{_beside(found, read.L2, NAIVE):.0f} {TIMES} FastAPI with `redis.get`"


def _misses(found: Found) -> str:
    return f"{found['misses']['ratio']:.1f} {TIMES} one find each"


def _stampede(found: Found) -> str:
    reads = round(found["stampede"]["mongodb_reads"])
    return f"{reads} read{'' if reads == 1 else 's'} of MongoDB"


def _capture(found: Found) -> str:
    return f"{found['ratio']:.2f} of only reading the stream"


def _latency(found: Found) -> str:
    [rate] = found["rates"]
    ours, least = rate["corrected_ms"]["p50"], rate["peer_ms"]["p50"]
    return f"{ours / least:.1f} {TIMES} the least that could do the work, {ours:.1f} ms"


NUMBERS: Final[Mapping[str, tuple[str, Callable[[Found], str]]]] = {
    "reads from the memory of a process": ("read", _memory),
    "reads from Redis": ("read", _redis),
    "misses, 200 clients": ("read", _misses),
    "5,000 clients ask for what was just invalidated": ("read", _stampede),
    "MongoDB → Kafka, positions durably stored": ("capture", _capture),
    "write acknowledged → Redis corrected, at the median": ("latency", _latency),
}
"""Row of README -> the benchmark that it comes from, and how it is said."""


def numbers(found: Mapping[str, Found]) -> tuple[dict[str, str], dict[str, str]]:
    """Those that were found; and of the others, why they were not. `found`: by benchmark."""
    told, missing = {}, {}
    for name, (benchmark, number) in NUMBERS.items():
        try:
            told[name] = number(found[benchmark])
        except Exception as error:
            why = found[benchmark].get(WRONG)
            missing[name] = why if isinstance(why, str) else reason(error)
    return told, missing


def with_numbers(document: str, told: Mapping[str, str], day: str) -> str:
    """The document with these numbers in the rows of their names."""
    for name, number in told.items():
        row = re.compile(rf"^(\| {re.escape(name)} \|) [^|]* \|", re.MULTILINE)
        document, count = row.subn(rf"\1 {number} |", document)
        if count != 1:
            raise ValueError(f"the document has {count} rows {name!r}")
    document, count = DAY.subn(f"One machine, one day ({os.cpu_count()} cores, {day})", document)
    if count != 1:
        raise ValueError("the document does not say on which day it was")
    return document


def _run(benchmark: str, arguments: Sequence[str]) -> Mapping[str, Any]:
    """Its figures, or why there are none."""
    print(f"\n{benchmark}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        argv = python(f"benchmarks.{benchmark}", *arguments, "--within", str(RUN_SECONDS), "--json", str(file))
        try:
            ended = subprocess.run(argv, cwd=PROJECT, check=False, timeout=KILL_SECONDS).returncode
        except subprocess.TimeoutExpired:
            return {WRONG: f"it was not done within {KILL_SECONDS:g} s"}
        if not file.exists():
            return {WRONG: f"it ended with {ended} and without figures"}
        found: Mapping[str, Any] = json.loads(file.read_text())
        return found


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all six are there; 1: some are not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.six", description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--docs", action="store_true")
    given = parser.parse_args(arguments)
    found = {benchmark: _run(benchmark, options) for benchmark, options in RUNS.items()}
    told, missing = numbers(found)
    for name, number in told.items():
        print(f"{name:<52}{number}")
    for name, why in missing.items():
        print(f"{name:<52}failed: {why}")
    if given.json:
        given.json.write_text(json.dumps({"told": told, "missing": missing}, indent=2, ensure_ascii=False) + "\n")
    if given.docs and told:
        text = with_numbers(README.read_text(encoding="utf-8"), told, time.strftime("%Y-%m-%d"))
        README.write_text(text, encoding="utf-8")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
