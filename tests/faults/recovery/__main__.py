"""`make recovery`: how long each single fault is felt, and how long a role takes to start; some rounds of each.

python -m tests.faults.recovery [--rounds N] [--json FILE] [FAULT ...]

What was measured is written into FILE, beside what it holds of other faults; docs/outages.md shows docs/recovery.json
(`make docs`).
"""

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from neverstale.ops.stack.process import version_of
from neverstale.ops.stack.redis import find_redis_server
from neverstale.role import telemetry
from neverstale.settings import Service
from tests.faults.recovery.measure import Measured, measure
from tests.faults.recovery.single_faults import FAULTS
from tests.faults.rig.bench import Bench


def recorded(held: dict[str, Any], found: Measured, versions: dict[str, str], load: float) -> dict[str, Any]:
    """What was measured now takes the place of what was held of the same."""
    when = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "cores": os.cpu_count(), "load": round(load, 1)}
    faults = held.get("faults", {}) | {
        name: {"goal_seconds": FAULTS[name].goal_seconds, "seconds": one.seconds, "causes": one.causes, **when}
        for name, one in found.faults.items()
    }
    starts = {role: {**vars(one), **when} for role, one in found.starts.items()}
    return {
        "versions": versions,
        "faults": {name: faults[name] for name in FAULTS if name in faults},
        "starts": held.get("starts", {}) | starts,
    }


async def story(bench: Bench, rounds: int, names: list[str]) -> tuple[Measured, dict[str, str]]:
    found = await measure(bench, rounds, names)
    versions = {
        "MongoDB": (await bench.mongod()).description,
        "Redis": version_of(find_redis_server()),
        "Python": platform.python_version(),
    }
    return found, versions


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.recovery")
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = [name for name in FAULTS if not options.faults or any(part in name for part in options.faults)]
    load = os.getloadavg()[0]
    bench = Bench()
    with (bench.data / "logs" / "here.log").open("w") as own_log:
        telemetry.configure_logging(Service(log_format="json"), own_log)
        try:
            found, versions = uvloop.run(story(bench, options.rounds, names))
        finally:
            bench.close()
    for name, one in found.faults.items():
        goal = FAULTS[name].goal_seconds
        print(f"{name}: {one.median:.2f} s, at most {max(one.seconds):.2f} s{f', goal {goal:g} s' if goal else ''}")
    for role, start in found.starts.items():
        print(f"{role}: ready after {min(start.seconds):.2f} s and {min(start.cpu_seconds):.2f} s of CPU")
    if options.json:
        held = json.loads(options.json.read_text()) if options.json.exists() else {}
        options.json.write_text(json.dumps(recorded(held, found, versions, load), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
