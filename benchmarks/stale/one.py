"""One cache, on servers of its own, through all phases.

    python -m benchmarks.stale.one NAME --json FILE [--seconds 8] [--broker auto]

What is found is written to the file after each step, so that nothing is lost that was found before something failed.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import traceback
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis

from benchmarks.parts import WRONG, attempt
from benchmarks.stale.backlog import drain
from benchmarks.stale.caches import CACHES, CATALOG
from benchmarks.stale.phases import Scene, Strike
from benchmarks.stale.readers import Board, Phase
from benchmarks.stale.truth import Truth
from neverstale.ops.demo.flights.board import week
from neverstale.ops.demo.report import quantile
from neverstale.ops.stack.broker import BrokerChoice
from neverstale.ops.stack.stack import LocalStack, StackOptions

START_SECONDS: Final = 150.0
PHASE_SECONDS: Final = 90.0
DRAIN_SECONDS: Final = 90.0


@dataclass(slots=True)
class Findings:
    """What is known so far, in a file."""

    file: Path
    found: dict[str, Any] = field(default_factory=lambda: {"phases": {}})

    def note(self, **found: Any) -> None:
        self.found |= found
        self.file.write_text(json.dumps(self.found, indent=2) + "\n")

    async def part(self, name: str, work: Coroutine[Any, Any, Mapping[str, Any]], seconds: float) -> None:
        self.found["phases"][name] = await attempt(work, seconds)
        self.note()
        print(f"{name}: {self.found['phases'][name]}", flush=True)


def strikes(scene: Scene) -> Iterator[tuple[str, Strike]]:
    """What happens to a cache, one after the other."""
    for part in scene.running.parts:
        yield f"killed: {part}", partial(scene.kill, part)
    if scene.running.writer_deletes:
        yield "killed: writes", scene.forget
    yield "flushed", scene.flush


def figures(phase: Phase) -> dict[str, Any]:
    """As JSON; of the times, quantiles."""
    found = asdict(phase)
    times = found.pop("corrected_ms")
    return found | {"corrected": len(times), "p50_ms": quantile(times, 0.5), "p99_ms": quantile(times, 0.99)}


async def measure(name: str, seconds: float, broker: BrokerChoice, findings: Findings) -> None:
    with tempfile.TemporaryDirectory(prefix="neverstale-stale-") as folder:
        catalog = Path(folder) / "catalog.toml"
        catalog.write_text(CATALOG)
        async with AsyncExitStack() as exits:
            async with asyncio.timeout(START_SECONDS):
                stack = await exits.enter_async_context(
                    LocalStack.start(StackOptions(catalog=catalog, broker=broker))
                )
                findings.note(broker=stack.kafka.description)
                truth = Truth()
                board = await exits.enter_async_context(Board(stack.mongo_uri, "nyc", week(), truth))
                await board.load()
                running = await exits.enter_async_context(CACHES[name](stack))
                redis = await exits.enter_async_context(Redis.from_url(stack.redis_url))
                scene = Scene(running, board, truth, week(), redis, stack.redis_url, Path(folder))
            await _phases(scene, seconds, findings)


async def _phases(scene: Scene, seconds: float, findings: Findings) -> None:
    async def phase(name: str, strike: Strike) -> Mapping[str, Any]:
        await scene.fill()
        return figures(await scene.phase(name, seconds, strike))

    async def load() -> Mapping[str, Any]:
        return figures(await scene.load(seconds))

    await findings.part("load", load(), 2 * PHASE_SECONDS)
    findings.note(memory_mb=scene.memory_mb())
    for name, strike in strikes(scene):
        await findings.part(name, phase(name, strike), PHASE_SECONDS)
    if scene.running.pipeline:
        await findings.part("backlog", drain(scene), DRAIN_SECONDS)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stale.one", description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=CACHES)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--broker", choices=("auto", "kafka", "embedded"), default="auto")
    given = parser.parse_args(arguments)
    findings = Findings(given.json)
    found = asyncio.run(_attempted(given.name, given.seconds, given.broker, findings))
    findings.note(**found)
    return 1 if WRONG in found else 0


async def _attempted(name: str, seconds: float, broker: BrokerChoice, findings: Findings) -> dict[str, Any]:
    async def whole() -> Mapping[str, Any]:
        try:
            await measure(name, seconds, broker, findings)
        except Exception:
            traceback.print_exc()
            raise
        return {}

    return await attempt(whole(), float("inf"))


if __name__ == "__main__":
    sys.exit(main())
