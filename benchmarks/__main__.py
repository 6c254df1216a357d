"""All benchmarks, one after the other, and one table of what matters.

    python -m benchmarks [--json FILE]

Each runs in a process of its own, so that none inherits the memory of another. One that fails says so in its line,
and the others go on; after four minutes it reports what it has. Answers 0 if all targets are met, else 1.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import apply, capture, derive, latency_report
from benchmarks.parts import WRONG, failed
from benchmarks.targets import Line, at_least, at_most, show
from neverstale.ops.stack.process import PROJECT, python

PARTS: Final = ("capture", "apply", "derive", "latency")
PART_SECONDS: Final = 240.0
KILL_SECONDS: Final = PART_SECONDS + 90.0
"""For one that does not keep to its time."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    results = {part: _run(part) for part in PARTS}
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n")
    lines = [line for part, result in results.items() for line in _lines(part, result)]
    show(lines)
    return 0 if all(line.good for line in lines) else 1


def _lines(part: str, result: Mapping[str, Any]) -> Iterator[Line]:
    if line := failed(part, result):
        yield line
    else:
        yield from LINES[part](result)
        if lost := result.get("lost"):
            yield Line(part, "; ".join(lost), "", good=False)


def _run(part: str) -> Mapping[str, Any]:
    """Run one benchmark, let it speak, and answer its figures, or why there are none."""
    print(f"\n{part}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        argv = python(f"benchmarks.{part}", "--within", str(PART_SECONDS), "--json", str(figures))
        try:
            ended = subprocess.run(argv, cwd=PROJECT, check=False, timeout=KILL_SECONDS)
        except subprocess.TimeoutExpired:
            return {WRONG: f"it was not done within {KILL_SECONDS:g} s"}
        if not figures.exists():
            return {WRONG: f"it ended with {ended.returncode} and without figures"}
        found: Mapping[str, Any] = json.loads(figures.read_text())
    return found


def _capture(found: Mapping[str, Any]) -> Iterator[Line]:
    rate, ratio = found["best_per_second"], found["ratio"]
    yield at_least("capture, changes/s", rate, capture.TARGET_PER_SECOND)
    yield at_least("capture, ratio to only reading the stream", ratio, capture.TARGET_RATIO, "{:.2f}")
    yield at_most("capture, resident MB", found["max_rss_mb"], capture.TARGET_RSS_MB)


def _apply(found: Mapping[str, Any]) -> Iterator[Line]:
    best = found["best"]
    yield at_least("apply, changes/s a consumer", best["per_second"], apply.TARGET_PER_SECOND)
    yield at_most("apply, resident MB", found["max_rss_mb"], apply.TARGET_RSS_MB)


def _derive(found: Mapping[str, Any]) -> Iterator[Line]:
    figure = "apply with 2 counters, 1 list, 1 ranking, changes/s a consumer"
    yield at_least(figure, found["derived_per_second"], derive.TARGET_PER_SECOND)
    yield at_most("the same, CPU for each ÷ documents only", found["cpu_ratio"], derive.TARGET_CPU_RATIO, "{:.1f}")
    yield Line("the same ÷ the least that could do the work", f"{found['cpu_of_the_least']:.1f}", "", good=True)
    yield at_most("contributions, bytes a document", found["contribution_bytes"], derive.TARGET_BYTES)


def _latency(found: Mapping[str, Any]) -> Iterator[Line]:
    for per_second, why in found["wrong"].items():
        yield Line(f"acknowledged → corrected at {per_second} writes/s", f"failed: {why}", "", good=False)
    for rate in found["rates"]:
        wanted = latency_report.TARGETS_MS[rate["writes_per_second"]]
        for name, most in zip(("p50", "p99"), wanted, strict=True):
            figure = f"acknowledged → corrected at {rate['writes_per_second']:,} writes/s, {name} ms"
            yield at_most(figure, rate["corrected_ms"][name], most, "{:.2f}")


LINES: Final[Mapping[str, Callable[[Mapping[str, Any]], Iterator[Line]]]] = {
    "capture": _capture,
    "apply": _apply,
    "derive": _derive,
    "latency": _latency,
}


if __name__ == "__main__":
    sys.exit(main())
