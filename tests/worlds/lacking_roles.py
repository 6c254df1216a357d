"""A pipeline one of whose roles starts again without one of its rights, comes to all that it may ever come to, and is
asked what it says of it."""

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
from tests.support.waiting import eventually
from tests.worlds.deriving import running
from tests.worlds.lacking import Right, Server, without
from tests.worlds.lacking_moments import ASKED, Moments
from tests.worlds.secured_pipeline import FLIGHTS, RESOURCE, Place

PATIENCE_SECONDS: Final = 20.0
"""So soon a role says what it lacks, also on a busy machine."""
WELL_SECONDS: Final = 60.0
"""So soon everything goes on when the right is given back."""
HANGS_SECONDS: Final = 12.0
"""No answer of the API takes so long, and no role needs so long to stop."""
STEADY: Final[tuple[Role, ...]] = ("watcher", "consumer", "api")
LIVES: Final[dict[str, Any]] = {"watcher": neverstale.streams.main.live, "consumer": neverstale.consumers.main.live}
SIGNS: Final[dict[Server, tuple[str, ...]]] = {
    "mongodb": ("13 Unauthorized",),
    "kafka": ("AuthorizationFailed",),
    # How Redis spells it within a script, and of a transaction that is not let end.
    "redis": ("NoPermissionError", "user executing the script can't", "EXECABORT"),
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
    open: list[str] = field(default_factory=list)
    """What was not done without it."""
    hung: list[str] = field(default_factory=list)
    unwell: list[str] = field(default_factory=list)
    """What did not go on when it was given back."""
    seconds: float = 0.0

    @property
    def works(self) -> bool:
        """Everything was done all the same."""
        return not (self.said or self.open or self.hung)

    @property
    def remedied(self) -> bool:
        return any(REMEDIES[self.right.server] in text for text in self.said)

    def __str__(self) -> str:
        verdict = "hung" if self.hung else "said" if self.said else "works" if self.works else "silent"
        shown = self.hung or self.said or self.open
        unwell = f", and then {self.unwell[:3]}" if self.unwell else ""
        return f"{self.right}: {verdict} after {self.seconds:.1f} s {shown[:2]}{unwell}"


@dataclass
class Lacking:
    """Roles with all of their rights, each of which can be started again without one of them."""

    place: Place
    moments: Moments
    lives: dict[str, tuple[AsyncExitStack, Any]] = field(default_factory=dict)

    @classmethod
    @asynccontextmanager
    async def of(cls, place: Place, *, briefly: bool = False) -> AsyncIterator[Self]:
        async with place.writing() as flights:
            await flights.delete_many({})
            await flights.insert_many([{"_id": str(n), "origin": "JFK", "delay": n} for n in range(FLIGHTS)])
            world = cls(place, Moments(place, flights, briefly))
            try:
                for role in STEADY:
                    await world.start(role)
                await world.moments.quiet()
                unwell = await world.until_well()
                assert not unwell, unwell
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
        """Start the role again without it, and give it back in the end. All must be well before."""
        finding = Finding(right)
        await self.stop(right.role)
        if (right.server, right.what) == ("kafka", "Create"):
            await self._delete_topic(right.on.partition(" ")[2])
        with capture_logs() as logs:
            async with without(self.place, right):
                begun = time.monotonic()
                await self.start(right.role)
                await self._come(right)
                while time.monotonic() - begun < PATIENCE_SECONDS:
                    if await self._is_settled(finding, logs):
                        break
                    await asyncio.sleep(0.05)
                finding.seconds = time.monotonic() - begun
                begun = time.monotonic()
                await self.stop(right.role)
                if time.monotonic() - begun > HANGS_SECONDS:
                    finding.hung.append(f"{right.role} did not stop")
        await self.start(right.role)
        await self.moments.quiet()
        finding.unwell = await self.until_well()
        return finding

    async def until_well(self, seconds: float = WELL_SECONDS) -> list[str]:
        """What is not well although all have had their rights for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if not (unwell := await self.moments.untrue(self.http)):
                break
            await asyncio.sleep(0.05)
        return unwell

    async def _come(self, right: Right) -> None:
        await self.moments.come(right.role)
        if right.on.endswith(".dead"):
            await self._poison()

    async def _poison(self) -> None:
        """A record that goes to the dead letters."""
        kafka = self.place.servers.settings("operator", self.place.base).kafka
        async with started_producer(kafka) as producer:
            await producer.send_and_wait(kafka.topic, b"nonsense", partition=0)

    async def _delete_topic(self, name: str) -> None:
        admin = self.place.servers.kafka_admin

        async def is_gone() -> bool:
            if name not in (await asyncio.to_thread(admin.list_topics, timeout=10)).topics:
                return True
            deleted = map(asyncio.wrap_future, admin.delete_topics([name]).values())
            await asyncio.gather(*deleted, return_exceptions=True)
            return False

        await eventually(is_gone, f"the topic {name} is deleted", 30)

    async def _is_settled(self, finding: Finding, logs: list[Any]) -> bool:
        """Whether it was said, is not needed for anything, or something hangs."""
        answers = []
        for path in (*ASKED, f"/v1/{RESOURCE}/none{self.moments.changes}"):
            try:
                async with asyncio.timeout(HANGS_SECONDS):
                    answers.append(await self.http.get(path))
            except TimeoutError:
                finding.hung.append(f"GET {path}")
                return True
        ready = (await self.http.get("/readyz")).json()["parts"]
        ailing = self._ailing()
        texts = [*ailing, *(str(one) for one in logs if one.get("log_level") in ("warning", "error"))]
        texts += [f"api {part}: {state}" for part, state in ready.items() if state != "ok"]
        texts += [answer.text for answer in answers if answer.status_code not in (200, 404)]
        finding.said = [text for text in texts if any(sign in text for sign in SIGNS[finding.right.server])]
        finding.open = ailing or await self.moments.open(finding.right.role, self.http)
        return bool(finding.said) or not finding.open

    def _ailing(self) -> list[str]:
        """What roles but the API know to be wrong."""
        lives: dict[str, Life] = {role: held for role, (_, held) in self.lives.items() if role != "api"}
        return [
            f"{role} {part}: {why}" for role, life in lives.items() for part, why in life.health.parts.items() if why
        ]
