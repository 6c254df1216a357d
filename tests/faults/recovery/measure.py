"""Measuring: how long answers state more than a second, and what that time was spent on."""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median
from typing import Any, Final

import orjson
import psutil

from neverstale.ops.http_client import Connection
from neverstale.ops.stack.role import Role, RunningRole
from tests.faults.recovery.single_faults import FAULTS, Recovering, heal, recovering
from tests.faults.rig.bench import Bench

FRESH_SECONDS: Final = 1.0
"""By more than the heartbeat's period no bound is wider while all is well: with the shipped settings near 1 s. So a
bound counts as fresh up to this and a heartbeat's delay."""
SLACK_SECONDS: Final = 0.25
STEADY_SECONDS: Final = 3.0
LONGEST_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.02
ROLES: Final[tuple[Role, ...]] = ("watcher", "consumer", "api")
CAUSES: Final = ("start-up", "lease", "group")
"""From a process's start to `started`; from the fault to `lease_taken`; from the fault, or from `started`, to
`assigned`: session and rebalance. The rest is replay, and the next mark."""


@dataclass
class Recovery:
    """Of one fault, in all rounds."""

    seconds: list[float] = field(default_factory=list)
    causes: dict[str, list[float]] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return median(self.seconds) if self.seconds else float("nan")

    def cause(self, name: str) -> float:
        return median(self.causes[name]) if self.causes.get(name) else 0.0


@dataclass
class Start:
    """Of one role, in all rounds: from nothing to `/readyz`."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    """Of the process until then: what a busy machine does not change much."""


@dataclass
class Measured:
    faults: dict[str, Recovery]
    starts: dict[str, Start]


async def measure(bench: Bench, rounds: int, names: Sequence[str]) -> Measured:
    found = {name: Recovery() for name in names}
    starts: dict[str, Start] = {role: Start() for role in ROLES}
    async with recovering(bench) as world:
        for _ in range(rounds):
            for role in ROLES:
                await _start(world, role, starts[role])
        await _steady(world, time.monotonic())
        for _ in range(rounds):
            for name in names:
                seconds, causes = await _one(world, name)
                found[name].seconds.append(round(seconds, 2))
                for cause, share in causes.items():
                    found[name].causes.setdefault(cause, []).append(share)
                print(f"{name}: {seconds:.2f} s  {causes}", flush=True)
                await heal(world)
                await _steady(world, time.monotonic())
    return Measured(found, starts)


async def _start(world: Recovering, role: Role, into: Start) -> None:
    """One more of a role, for a moment. What it needs is there: the topic, the group, the registers."""
    began = time.monotonic()
    running = await world.pipe.start(role)
    into.seconds.append(round(time.monotonic() - began, 2))
    times = psutil.Process(running.pid).cpu_times()
    into.cpu_seconds.append(round(times.user + times.system, 2))
    print(f"{role}: {into.seconds[-1]} s, {into.cpu_seconds[-1]} s of CPU", flush=True)
    await running.stop()
    world.pipe.roles.remove(running)


async def _one(world: Recovering, name: str) -> tuple[float, dict[str, float]]:
    began, wall = time.monotonic(), time.time()
    looking = asyncio.create_task(_steady(world, began))
    await FAULTS[name].make(world)
    seconds = await looking
    return seconds, _causes(world, wall, seconds)


async def _steady(world: Recovering, began: float) -> float:
    """Seconds from `began` to the last look that was not fresh, once all was fresh for a while; 0: all were."""
    last = began
    while time.monotonic() - last < STEADY_SECONDS or time.monotonic() - began < STEADY_SECONDS + 1:
        now = time.monotonic()
        if now - began > LONGEST_SECONDS:
            return LONGEST_SECONDS
        bound = await _bound(world.api)
        if bound is None or bound > FRESH_SECONDS + SLACK_SECONDS:
            last = now
        await asyncio.sleep(POLL_SECONDS)
    return last - began


async def _bound(api: RunningRole) -> float | None:
    """The widest of all resources; `None`: unknown."""
    try:
        connection = await Connection.open(api.url)
        try:
            answer = await connection.get("/v1/freshness", 2)
        finally:
            connection.close()
    except (OSError, TimeoutError):
        return None
    bounds = [one["bound"] for one in orjson.loads(answer.body)["resources"].values()]
    return None if None in bounds else max(bounds)


def _causes(world: Recovering, wall: float, seconds: float) -> dict[str, float]:
    """Shares of the time, in seconds, as the roles' logs tell them."""
    events = sorted(_events([*world.watchers, *world.consumers], wall, wall + seconds))
    started = max((at for at, event in events if event == "started"), default=None)
    shares: dict[str, float] = {}
    if started is not None:
        shares["start-up"] = started - wall
    for event, cause in (("lease_taken", "lease"), ("assigned", "group")):
        last = max((at for at, one in events if one == event), default=None)
        if last is not None:
            since = started if started is not None and started < last else wall
            shares[cause] = last - since
    shares["rest"] = max(0.0, seconds - sum(shares.values()))
    return {name: round(share, 2) for name, share in shares.items()}


def _events(roles: Sequence[RunningRole], since: float, until: float) -> Iterator[tuple[float, str]]:
    for role in roles:
        for line in role.log.read_text(errors="replace").splitlines():
            try:
                told: dict[str, Any] = json.loads(line)
                at = datetime.fromisoformat(told["timestamp"]).timestamp()
            except (ValueError, KeyError, TypeError):
                continue
            if since <= at <= until + 1:
                yield at, told.get("event", "")
