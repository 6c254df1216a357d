"""Hits of pages beside hits of documents, of one worker on one core.

    python -m benchmarks.pages [--seconds 3] [--rounds 3]

A page holds one document, so the bodies are of the same size but for 24 bytes. Both are asked in turn, round after
round, and compared within the round.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Final

from pymongo import AsyncMongoClient

from benchmarks.read import DOCUMENTS, Bench, Load, Spread, document, last_core, pin, wrk
from ops.stack.stack import LocalStack, StackOptions

CATALOG: Final = """\
database = "bench"

[resources.items]
key_type = "string"
fields = { fields = "object" }

[resources.items.lists.shelves]
by = ["shelf"]
"""
SPREADS: Final = {"document": Spread(), "page": Spread("-/lists/shelves?shelf=item", DOCUMENTS)}


async def measure(server: str, seconds: int, rounds: int) -> dict[str, list[Load]]:
    """Loads by what was asked for."""
    with tempfile.TemporaryDirectory(prefix="neverstale-pages-") as folder:
        catalog = Path(folder) / "catalog.toml"
        catalog.write_text(CATALOG)
        async with LocalStack.start(StackOptions(catalog=catalog)) as stack, AsyncExitStack() as exits:
            async with AsyncMongoClient[dict[str, Any]](stack.mongo_uri) as client:
                items = client["bench"]["items"]
                await items.insert_many(
                    [document(f"item-{number:04}") | {"shelf": f"item-{number:06}"} for number in range(DOCUMENTS)]
                )
                await items.create_index({"shelf": 1, "_id": 1})
            await stack.start_role("watcher")
            await stack.start_role("consumer")
            for process in stack.processes:
                pin(process.pid, last_core())
            bench = Bench(stack, exits, "")
            port = await bench.port(server)
            assert port is not None
            loads: dict[str, list[Load]] = {name: [] for name in SPREADS}
            for spread in (*SPREADS.values(), *SPREADS.values()):
                await wrk(port, 2, {}, spread)  # warm: fill the caches, let the generation be complete
            for _ in range(rounds):
                for name, spread in SPREADS.items():
                    before = bench.cpu_seconds(server)
                    load = await wrk(port, seconds, {}, spread)
                    used = bench.cpu_seconds(server) - before
                    loads[name].append(replace(load, cpu_us=used / max(load.requests, 1) * 1e6))
            return loads


def show(server: str, loads: dict[str, list[Load]]) -> str:
    lines = [
        f"{server} {name}: {median(load.per_second for load in some):,.0f} requests/s, "
        f"p50 {median(load.p50_ms for load in some):.2f} ms, p99 {median(load.p99_ms for load in some):.2f} ms, "
        f"{median(load.cpu_us for load in some):.1f} us CPU, {sum(load.errors for load in some)} errors"
        for name, some in loads.items()
    ]
    pairs = list(zip(loads["page"], loads["document"], strict=True))
    ratios = sorted(page.per_second / other.per_second for page, other in pairs)
    cpu = median(other.cpu_us / page.cpu_us for page, other in pairs)
    shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    return "\n".join([*lines, f"{server} page / document: {median(ratios):.2f} ({shown}); by CPU time {cpu:.2f}"])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server", choices=("L1", "L2"), default="L2")
    options = parser.parse_args(arguments)
    print(show(options.server, asyncio.run(measure(options.server, options.seconds, options.rounds))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
