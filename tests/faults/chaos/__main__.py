"""`make chaos`: one seeded storm of all faults, and its page.

python -m tests.faults.chaos [--hours N] [--seed N] [--html FILE] [--data FOLDER]

Exit code 1: something was wrong, see the page. The page is written each half minute: a storm that is ended early has
told what it found until then.
"""

import argparse
import asyncio
import platform
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from signal import SIGINT, SIGTERM, SIGUSR1
from typing import Any

import uvloop

from neverstale import __version__
from neverstale.ops.stack.process import version_of
from neverstale.ops.stack.redis import find_redis_server
from neverstale.ops.truth.oracle import Tally
from neverstale.role import telemetry
from neverstale.settings import Service
from tests.faults.chaos.page import page
from tests.faults.chaos.story import Ending, Report, story
from tests.faults.rig.bench import Bench


async def storm(bench: Bench, report: Report, seconds: float, tell: Callable[[Report], None]) -> None:
    """One SIGINT or SIGTERM ends it early, with its comparison; a second one at once. SIGUSR1 shows what hangs."""
    early, loop, task = asyncio.Event(), asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def end() -> None:
        if early.is_set():
            task.cancel()
        early.set()

    for signal in (SIGINT, SIGTERM):
        loop.add_signal_handler(signal, end)
    loop.add_signal_handler(SIGUSR1, waiting)
    report.versions |= {
        "neverstale": __version__,
        "Python": platform.python_version(),
        "MongoDB": (await bench.mongod()).description,
        "Redis": version_of(find_redis_server()),
    }
    try:
        await story(bench, report, seconds, Ending(early, tell))
    except BaseException as error:  # it is told all the same what was found until then
        report.failed.append(f"the story itself: {error!r}"[:1000])
        report.at_the_end["told to its end"] = Tally(1, 1)
        traceback.print_exc()


def waiting() -> None:
    """Print what every task waits for, down to the innermost coroutine."""
    for task in asyncio.all_tasks():
        places: list[str] = []
        inner: Any = task.get_coro()
        while inner is not None and (frame := getattr(inner, "cr_frame", None)) is not None:
            places.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}")
            inner = getattr(inner, "cr_await", None)
        print(f"{task.get_name()}: {' > '.join(places)} > {inner!r}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.chaos")
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--html", type=Path, default=Path("chaos.html"))
    parser.add_argument("--data", type=Path, help="where servers and logs live; default: a temporary folder")
    options = parser.parse_args()
    report = Report(options.seed)

    def tell(report: Report) -> None:
        new = options.html.with_suffix(".new")
        new.write_text(page(report), encoding="utf-8")
        new.replace(options.html)

    bench = Bench(options.data)
    with (bench.data / "logs" / "here.log").open("w") as own_log:
        telemetry.configure_logging(Service(log_format="json"), own_log)
        try:
            uvloop.run(storm(bench, report, options.hours * 3600, tell))
        finally:
            bench.close()
            tell(report)
    for name, kinds in report.resources.items():
        for kind, one in kinds.items():
            print(f"{name} {kind}: {one['wrong']} wrong of {one['checked']:,}, {one['nines']} nines")
    print(f"{report.wrong} wrong of {report.checked:,} answers, {report.nines} nines; ", end="")
    print(f"{len(report.faults)} faults, {report.writes:,} writes; {options.html}")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
