"""`make chaos`: one seeded storm of all faults, and its page.

python -m tests.faults.chaos [--hours N] [--seed N] [--html FILE] [--data FOLDER]

Exit code 1: something was wrong, see the page.
"""

import argparse
import platform
import sys
from pathlib import Path

import uvloop

from neverstale import __version__
from neverstale.ops.stack.process import version_of
from neverstale.ops.stack.redis import find_redis_server
from neverstale.role import telemetry
from neverstale.settings import Service
from tests.faults.chaos.page import page
from tests.faults.chaos.story import Report, story
from tests.faults.rig.bench import Bench


async def storm(bench: Bench, seconds: float, seed: int) -> Report:
    report = await story(bench, seconds, seed)
    report.versions |= {
        "neverstale": __version__,
        "Python": platform.python_version(),
        "MongoDB": (await bench.mongod()).description,
        "Redis": version_of(find_redis_server()),
    }
    return report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.chaos")
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--html", type=Path, default=Path("chaos.html"))
    parser.add_argument("--data", type=Path, help="where servers and logs live; default: a temporary folder")
    options = parser.parse_args()
    bench = Bench(options.data)
    with (bench.data / "logs" / "here.log").open("w") as own_log:
        telemetry.configure_logging(Service(log_format="json"), own_log)
        try:
            report = uvloop.run(storm(bench, options.hours * 3600, options.seed))
        finally:
            bench.close()
    options.html.write_text(page(report), encoding="utf-8")
    for name, kinds in report.resources.items():
        for kind, one in kinds.items():
            print(f"{name} {kind}: {one['wrong']} wrong of {one['checked']:,}, {one['nines']} nines")
    print(f"{report.wrong} wrong, {len(report.faults)} faults, {report.writes:,} writes; {options.html}")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
