"""A pipeline one of whose roles starts again without one of its rights, does all that it does, and is asked what it
says of it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Self

import httpx
from structlog.testing import capture_logs

import neverstale.consumers.main
import neverstale.streams.main
from neverstale.kafka.producer import started_producer
from neverstale.ops.privileges.roles import Role
from neverstale.role.service import Life
from tests.worlds.deriving import running
from tests.worlds.lacking import Right, Server, without
from tests.worlds.secured_pipeline import FLIGHTS, PATHS, RESOURCE, Place, until_hit

PATIENCE_SECONDS: Final = 20.0
"""So soon a role says what it lacks, also on a busy machine."""
HANGS_SECONDS: Final = 12.0
"""No answer of the API takes so long, and no role needs so long to stop."""
STEADY: Final[tuple[Role, ...]] = ("watcher", "consumer", "api")
LIVES: Final[dict[str, Any]] = {"watcher": neverstale.streams.main.live, "consumer": neverstale.consumers.main.live}
SIGNS: Final[dict[Server, tuple[str, ...]]] = {
    "mongodb": ("13 Unauthorized",),
    "kafka": ("AuthorizationFailed",),
    # The second: how Redis 7.0 spells it within a script.
    "redis": ("NoPermissionError", "user executing the script can't"),
}
REMEDIES: Final[dict[Server, str]] = {
    "mongodb": "grant the user of mongodb.uri",
    "kafka": "kafka-acls",
    "redis": "give the user of redis.url its rights",
}
"""What docs/security.md says of each."""


@dataclass
class Finding:
    """What came of a role without a right."""

    right: Right
    said: list[str] = field(default_factory=list)
    """Of it, in health, log or answers."""
    works: bool = False
    """Everything was done all the same."""
    hung: list[str] = field(default_factory=list)
    met: list[str] = field(default_factory=list)
    """Whatever else was the matter."""
    seconds: float = 0.0

    @property
    def remedied(self) -> bool:
        return any(REMEDIES[self.right.server] in text for text in self.said)

    def __str__(self) -> str:
        verdict = "hung" if self.hung else "said" if self.said else "works" if self.works else "silent"
        return f"{self.right}: {verdict} after {self.seconds:.1f} s {(self.hung or self.said or self.met)[:2]}"


@dataclass
class Lacking:
    """Roles with all of their rights, each of which can be started again without one of them."""

    place: Place
    flights: Any
    lives: dict[str, tuple[AsyncExitStack, Any]] = field(default_factory=dict)
    changes: int = 1000

    @classmethod
    @asynccontextmanager
    async def of(cls, place: Place) -> AsyncIterator[Self]:
        async with place.writing() as flights:
            await flights.delete_many({})
            await flights.insert_many([{"_id": str(n), "origin": "JFK", "delay": n} for n in range(FLIGHTS)])
            world = cls(place, flights)
            try:
                for role in STEADY:
                    await world.start(role)
                for path in PATHS:
                    await until_hit(world.http, path)
                yield world
            finally:
                for name in list(world.lives):
                    await world.stop(name)

    async def start(self, role: str) -> None:
        stack = AsyncExitStack()
        if role == "api":
            held: Any = await stack.enter_async_context(self.place.api())
        else:
            settings = self.place.servers.settings(role, self.place.base, certificate=role == "watcher")  # type: ignore[arg-type]
            held = await stack.enter_async_context(running(LIVES[role], settings, self.place.catalog, role))
        self.lives[role] = stack, held

    async def stop(self, role: str) -> None:
        stack, _ = self.lives.pop(role)
        await stack.aclose()

    @property
    def http(self) -> httpx.AsyncClient:
        client: httpx.AsyncClient = self.lives["api"][1]
        return client

    async def without(self, right: Right) -> Finding:
        """Start the role again without it, and give it back in the end."""
        finding = Finding(right)
        await self._cached()
        await self.stop(right.role)
        if (right.server, right.what) == ("kafka", "Create"):
            await self._delete_topic(right.on.partition(" ")[2])
        with capture_logs() as logs:
            async with without(self.place, right):
                begun = time.monotonic()
                await self.start(right.role)
                await self._change(right)
                while not (finding.said or finding.works or finding.hung):
                    await self._look(finding, logs)
                    if time.monotonic() - begun > PATIENCE_SECONDS:
                        break
                    await asyncio.sleep(0.05)
                finding.seconds = time.monotonic() - begun
                begun = time.monotonic()
                await self.stop(right.role)
                if time.monotonic() - begun > HANGS_SECONDS:
                    finding.hung.append(f"{right.role} did not stop")
        await self.start(right.role)
        if (right.server, right.what) == ("kafka", "Create"):
            await self.until_well()  # all that was derived begins again with another topic
        return finding

    async def until_well(self, seconds: float = 60) -> bool:
        """Whether a change arrives, now that all have their rights."""
        await self._write()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if await self._arrived():
                return True
            await asyncio.sleep(0.1)
        return False

    async def _cached(self, seconds: float = 20) -> None:
        """What is not cached yet would be read from MongoDB, with the change that nobody told of."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            answers = [await self.http.get(path) for path in PATHS]
            if all("; hit" in answer.headers.get("cache-status", "") for answer in answers):
                return
            await asyncio.sleep(0.05)

    async def _change(self, right: Right) -> None:
        await self._write()
        if right.on.endswith(".dead"):
            await self._poison()

    async def _write(self) -> None:
        self.changes += 1
        await self.flights.update_one({"_id": "1"}, {"$set": {"delay": self.changes}})
        await self.flights.delete_one({"_id": "2"})
        await self.flights.insert_one({"_id": "2", "origin": "JFK", "delay": 2})

    async def _poison(self) -> None:
        """A record that goes to the dead letters."""
        kafka = self.place.servers.settings("operator", self.place.base).kafka
        async with started_producer(kafka) as producer:
            await producer.send_and_wait(kafka.topic, b"nonsense", partition=0)

    async def _delete_topic(self, name: str) -> None:
        for done in self.place.servers.kafka_admin.delete_topics([name]).values():
            try:
                await asyncio.to_thread(done.result, 30)
            except Exception:
                continue

    async def _arrived(self) -> bool:
        answer = await self.http.get(PATHS[0])
        return answer.status_code == 200 and answer.json().get("delay") == self.changes

    async def _look(self, finding: Finding, logs: list[Any]) -> None:
        answers = []
        for path in (*PATHS, f"/v1/{RESOURCE}/-/most-read/1", f"/v1/{RESOURCE}/none{self.changes}"):
            try:
                async with asyncio.timeout(HANGS_SECONDS):
                    answers.append(await self.http.get(path))
            except TimeoutError:
                finding.hung.append(f"GET {path}")
                return
        texts = [*self._ailing(), *(str(one) for one in logs if one.get("log_level") in ("warning", "error"))]
        ready = (await self.http.get("/readyz")).json()["parts"]
        texts += [f"api {part}: {state}" for part, state in ready.items() if state != "ok"]
        texts += [answer.text for answer in answers if answer.status_code not in (200, 404)]
        finding.met = texts
        finding.said = [text for text in texts if any(sign in text for sign in SIGNS[finding.right.server])]
        hits = all("; hit" in answer.headers.get("cache-status", "") for answer in answers[: len(PATHS)])
        finding.works = not finding.said and hits and await self._arrived() and not self._ailing()

    def _ailing(self) -> list[str]:
        """What roles but the API know to be wrong."""
        lives: dict[str, Life] = {role: held for role, (_, held) in self.lives.items() if role != "api"}
        return [
            f"{role} {part}: {why}" for role, life in lives.items() for part, why in life.health.parts.items() if why
        ]
