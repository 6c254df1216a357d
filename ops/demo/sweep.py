"""After the writers have stopped: wait until the cache has caught up, then ask for everything once."""

import asyncio
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson

from neverstale.ops.demo.flights.board import Document
from neverstale.ops.demo.places import Places
from neverstale.ops.http_client import Connection, HttpAnswer
from neverstale.ops.stack.process import at_once
from neverstale.ops.truth.oracle import Tally, compare
from neverstale.versions import Version, from_hex

CONNECTIONS: Final = 32
POLL_SECONDS: Final = 0.02
CONVERGE_SECONDS: Final = 120.0
PATIENCE_SECONDS: Final = 30.0
"""How long one key is asked for again while the service cannot answer."""


Freshness: TypeAlias = Mapping[str, Any]
"""What `GET /v1/freshness` says of one resource."""


class NotConverged(Exception):
    """The watermark did not reach the last write, or the service did not answer."""


@dataclass
class Sweep:
    """What the service answers for every key after convergence, against what MongoDB holds."""

    stale: Tally = field(default_factory=Tally)
    hits: int = 0
    """Answers that came from the cache: only these can be stale."""


async def converge(url: str, last: Version) -> float:
    """Wait until every resource's watermark has passed the last write; returns the seconds that it took."""

    def behind(resource: Freshness) -> bool:
        watermark = resource["watermark"]
        return watermark is None or from_hex(watermark) < last

    return await _until_none(behind, url, "behind the last write")


async def freshen(url: str, bound_seconds: float) -> float:
    """Wait until every resource's answers are known to be at most so old; returns the seconds that it took."""

    def behind(resource: Freshness) -> bool:
        bound = resource["bound"]
        return bound is None or bound > bound_seconds

    return await _until_none(behind, url, f"more than {bound_seconds:g} s old")


async def _until_none(behind: Callable[[Freshness], bool], url: str, what: str) -> float:
    started = time.monotonic()
    held = "the service did not answer"
    while time.monotonic() - started < CONVERGE_SECONDS:
        try:
            resources = await _freshness(url)
            late = [f"{name} ({state})" for name, state in resources.items() if behind(state)]
            if not late:
                return time.monotonic() - started
            held = ", ".join(late)
        except OSError:
            pass  # it may be starting again
        await asyncio.sleep(POLL_SECONDS)
    raise NotConverged(f"after {CONVERGE_SECONDS:g} s still {what}: {held}")


async def _freshness(url: str) -> dict[str, Freshness]:
    connection = await Connection.open(url)
    try:
        answer = await connection.get("/v1/freshness", PATIENCE_SECONDS)
    finally:
        connection.close()
    resources: dict[str, Freshness] = orjson.loads(answer.body)["resources"]
    return resources


async def sweep(url: str, known: Places, stored: Mapping[str, Mapping[str, Document]], catalog: Path) -> Sweep:
    """Ask for every key once, flights that never were included."""
    found = Sweep()
    answered: dict[str, Document] = {}
    paths = known.paths
    left = iter(paths)  # shared by all connections

    async def ask() -> None:
        connection: Connection | None = None
        for path in left:
            connection, answer = await answer_of(url, path, connection)
            found.hits += answer.headers.get("cache-status", "").startswith("neverstale; hit")
            if answer.status == 200:
                answered[path] = orjson.loads(answer.body)
        if connection is not None:
            connection.close()

    async with at_once() as group:
        for _ in range(CONNECTIONS):
            group.create_task(ask())
    found.stale = compare(_expected(known, stored, catalog), answered, paths)
    return found


async def answer_of(url: str, path: str, connection: Connection | None) -> tuple[Connection, HttpAnswer]:
    """Ask, again and again if need be; raises `NotConverged` in the end. Answers with 200 or 404 are answers."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        problem = ""
        try:
            if connection is None or not connection.usable:
                connection = await Connection.open(url)
            answer = await connection.get(path, PATIENCE_SECONDS)
            if answer.status in (200, 404):
                return connection, answer
            problem = f"status {answer.status}: {answer.body.decode(errors='replace')}"
        except OSError as error:
            problem = str(error) or type(error).__name__
        if time.monotonic() > deadline:
            raise NotConverged(f"{path} was not answered: {problem}")
        await asyncio.sleep(POLL_SECONDS)


def _expected(known: Places, stored: Mapping[str, Mapping[str, Document]], catalog: Path) -> dict[str, Document]:
    """Path -> JSON as it has to be: the catalog's fields of the stored document. Made without neverstale's code."""
    fields = {resource: fields_of(catalog, resource) for resource in stored}
    expected: dict[str, Document] = {}
    for path, resource, key in zip(known.paths, known.resources, known.keys, strict=True):
        document = stored[resource].get(key)
        if document is not None:
            shown = fields[resource]
            expected[path] = {name: json_of(value) for name, value in document.items() if name in shown}
    return expected


def fields_of(catalog: Path, resource: str) -> set[str]:
    """What is shown of a resource's documents."""
    return {"_id", *tomllib.loads(catalog.read_text())["resources"][resource]["fields"]}


def json_of(value: Any) -> Any:
    """A stored value as JSON has to show it."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03}Z"
    return value
