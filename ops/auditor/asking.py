"""Asking: over some connections to every process of the API that there is, in turn."""

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar
from urllib.parse import quote

import orjson

from neverstale.ops.auditor.judging.questions import AuditQuestion
from neverstale.ops.auditor.judging.told import Told, bound_of, heard
from neverstale.ops.http_client import Connection, HttpAnswer

SECONDS: Final = 5.0
"""An API that answers later has not answered."""
CONNECTIONS: Final = 2
"""To each process at once, for each lane."""
LANES: Final = 10
"""So many are asked for different things at once."""
LIVES: Final = 200
"""Questions over one connection: workers share an address, and a new connection may lead to another one."""
AUDIT: Final = "Neverstale-Audit"
CACHED_ONLY: Final = "Cache-Control: only-if-cached"
TOGETHER: Final = 200
"""Keys in one question."""

T = TypeVar("T")


class Asker:
    """Asks what processes of the API answer. Its questions say that they are an audit's."""

    def __init__(self, bearer: str | None = None) -> None:
        self._labels = (f"{AUDIT}: 1", *([f"Authorization: Bearer {bearer}"] if bearer is not None else []))
        self._urls: list[str] = []
        self._open: dict[str, list[tuple[Connection, int]]] = {}
        self._turn = itertools.count()
        self.unanswered = 0

    @property
    def urls(self) -> Sequence[str]:
        return self._urls

    def meet(self, urls: Iterable[str]) -> None:
        """These are the processes now, one address for each."""
        self._urls = sorted(urls)
        for url in self._open.keys() - set(self._urls):
            self._close(url)

    def close(self) -> None:
        for url in list(self._open):
            self._close(url)

    def address(self, lane: int) -> str | None:
        """The process that a lane asks now; `None`: there is none. Each lane has some for itself where there are
        enough, so that one that hangs holds up its own lane only."""
        if not self._urls:
            return None
        mine = self._urls[lane::LANES] or [self._urls[lane % len(self._urls)]]
        return mine[next(self._turn) % len(mine)]

    async def ask(self, questions: Sequence[AuditQuestion], lane: int) -> list[Told]:
        """The answers that came, in no order."""

        async def one(question: AuditQuestion, url: str) -> list[Told]:
            told = await self._one(question, url)
            return [] if told is None else [told]

        return await self._over_connections(questions, one, lane)

    async def ask_together(self, questions: Sequence[AuditQuestion], lane: int) -> list[Told]:
        """Documents of one resource, many in one answer, each of which is then told without a version of its own."""
        parcels = [questions[start : start + TOGETHER] for start in range(0, len(questions), TOGETHER)]
        return await self._over_connections(parcels, self._parcel, lane)

    async def _over_connections(
        self, some: Sequence[T], ask: Callable[[T, str], Awaitable[list[Told]]], lane: int
    ) -> list[Told]:
        url = self.address(lane)
        if url is None:
            return []
        left = iter(some)
        found: list[Told] = []

        async def connection() -> None:
            for one in left:
                found.extend(await ask(one, url))

        await asyncio.gather(*(connection() for _ in range(min(len(some), CONNECTIONS))))
        return found

    async def ask_again(self, question: AuditQuestion, url: str) -> Told | None:
        """Of the same process, if it is still there."""
        return await self._one(question, url)

    async def _parcel(self, questions: Sequence[AuditQuestion], url: str) -> list[Told]:
        keys = ",".join(quote(str(question.key), safe="") for question in questions)
        path = f"{questions[0].path.rpartition('/')[0]}?keys={keys}"
        asked = time.monotonic()
        answer = await self._get(url, path, cached_only=False)
        if answer is None or answer.status != 200:
            self.unanswered += len(questions)
            return []
        bound = bound_of(answer)
        return [
            Told(question, url, asked, 200 if body is not None else 404, body, None, bound, "l2")
            for question, (is_told, body) in zip(questions, _items(answer.body), strict=True)
            if is_told
        ]

    async def _one(self, question: AuditQuestion, url: str) -> Told | None:
        asked = time.monotonic()
        answer = await self._get(url, question.path, cached_only=question.cached_only)
        told = heard(question, url, asked, answer) if answer is not None else None
        if told is None:
            self.unanswered += 1
        return told

    async def _get(self, url: str, path: str, *, cached_only: bool) -> HttpAnswer | None:
        headers = (*self._labels, CACHED_ONLY) if cached_only else self._labels
        try:
            connection, uses = await self._connection(url)
            answer = await connection.get(path, SECONDS, *headers)
        except (OSError, TimeoutError):
            return None
        if connection.usable and uses < LIVES:
            self._open.setdefault(url, []).append((connection, uses + 1))
        else:
            connection.close()
        return answer

    async def _connection(self, url: str) -> tuple[Connection, int]:
        idle = self._open.get(url, [])
        while idle:
            connection, uses = idle.pop()
            if connection.usable:
                return connection, uses
        async with asyncio.timeout(SECONDS):
            return await Connection.open(url), 0

    def _close(self, url: str) -> None:
        for connection, _ in self._open.pop(url, ()):
            with suppress(OSError):
                connection.close()


def _items(body: bytes) -> list[tuple[bool, bytes | None]]:
    """For each key, whether anything is told of it, and the document."""
    try:
        items: list[dict[str, Any]] = orjson.loads(body)["items"]
    except orjson.JSONDecodeError:  # whole numbers beyond 64 bits
        items = json.loads(body)["items"]
    return [("value" in item, None if item.get("value") is None else _spelled(item["value"])) for item in items]


def _spelled(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()
