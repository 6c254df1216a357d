"""`make recovery`: a table of how long each single fault is felt, with medians of some rounds.

python -m tests.faults.recovery [--rounds N] [--json FILE] [FAULT ...]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import uvloop

from neverstale.role import telemetry
from neverstale.settings import Service
from tests.faults.recovery.measure import CAUSES, Recovery, measure
from tests.faults.recovery.single_faults import FAULTS
from tests.faults.rig.bench import Bench


def start_up_cpu(role: str) -> float:
    """CPU seconds until a role has imported all that it needs: what a loaded machine does not change much."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    module = {"watcher": "streams", "consumer": "consumers", "api": "api"}[role]
    subprocess.run([sys.executable, "-c", f"import neverstale.{module}.main"], check=True, env=os.environ)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def table(found: dict[str, Recovery]) -> str:
    lines = [
        "| fault | seconds, median | most | of it: start-up | lease | session, rebalance | replay, the next mark |"
    ]
    lines.append("|---|---|---|---|---|---|---|")
    for name, one in found.items():
        shares = [f"{one.cause(cause):.1f}" for cause in (*CAUSES, "rest")]
        lines.append(f"| {name} | {one.median:.1f} | {max(one.seconds):.1f} | {' | '.join(shares)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.recovery")
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = [name for name in FAULTS if not options.faults or any(part in name for part in options.faults)]
    bench = Bench()
    with (bench.data / "logs" / "here.log").open("w") as own_log:
        telemetry.configure_logging(Service(log_format="json"), own_log)
        try:
            found = uvloop.run(measure(bench, options.rounds, names))
        finally:
            bench.close()
    print(table(found))
    for role in ("watcher", "consumer", "api"):
        print(f"start-up of a {role}: {min(start_up_cpu(role) for _ in range(3)):.2f} CPU seconds of imports")
    if options.json:
        options.json.write_text(json.dumps({name: vars(one) for name, one in found.items()}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
