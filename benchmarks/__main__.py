"""All benchmarks, one after the other, and one table of what matters.

    python -m benchmarks [--json FILE]

Each runs in a process of its own, so that none inherits the memory of another.
Answers 0 if all targets are met, else 1.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import apply, capture, derive, latency_report
from benchmarks.targets import Line, at_least, at_most, show
from neverstale.ops.stack.process import PROJECT, python

PARTS: Final = ("capture", "apply", "derive", "latency")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    results = {part: _run(part) for part in PARTS}
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n")
    lines = [line for part, result in results.items() for line in LINES[part](result)]
    show(lines)
    return 0 if all(line.good for line in lines) else 1


def _run(part: str) -> dict[str, Any]:
    """Run one benchmark, let it speak, and answer its figures."""
    print(f"\n{part}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        ended = subprocess.run(python(f"benchmarks.{part}", "--json", str(figures)), cwd=PROJECT, check=False)
        if not figures.exists():
            raise SystemExit(f"{part} ended with {ended.returncode} and without figures")
        found: dict[str, Any] = json.loads(figures.read_text())
    return found


def _capture(found: dict[str, Any]) -> Iterator[Line]:
    rate, ratio = found["best_per_second"], found["ratio"]
    yield at_least("capture, changes/s", rate, capture.TARGET_PER_SECOND)
    yield at_least("capture, ratio to only reading the stream", ratio, capture.TARGET_RATIO, "{:.2f}")
    yield at_most("capture, resident MB", found["max_rss_mb"], capture.TARGET_RSS_MB)


def _apply(found: dict[str, Any]) -> Iterator[Line]:
    best = found["best"]
    yield at_least("apply, changes/s a consumer", best["per_second"], apply.TARGET_PER_SECOND)
    yield at_most("apply, resident MB", found["max_rss_mb"], apply.TARGET_RSS_MB)


def _derive(found: dict[str, Any]) -> Iterator[Line]:
    figure = "apply with 2 counters, 1 list, 1 ranking, changes/s a consumer"
    yield at_least(figure, found["derived_per_second"], derive.TARGET_PER_SECOND)
    yield at_most("contributions, bytes a document", found["contribution_bytes"], derive.TARGET_BYTES)


def _latency(found: dict[str, Any]) -> Iterator[Line]:
    for rate in found["rates"]:
        wanted = latency_report.TARGETS_MS[rate["writes_per_second"]]
        for name, most in zip(("p50", "p99"), wanted, strict=True):
            figure = f"acknowledged → corrected at {rate['writes_per_second']:,} writes/s, {name} ms"
            yield at_most(figure, rate["corrected_ms"][name], most, "{:.2f}")


LINES: Final[dict[str, Callable[[dict[str, Any]], Iterator[Line]]]] = {
    "capture": _capture,
    "apply": _apply,
    "derive": _derive,
    "latency": _latency,
}


if __name__ == "__main__":
    sys.exit(main())
