"""Live reads: the states of one thing as they come, for as long as somebody wants them.

A stream that breaks is begun again from the last version, after pauses that grow: no last state is missed, and none
is older than one before it.
"""

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import httpx
import orjson

from neverstale.client.demands import Demand
from neverstale.client.event_stream import MEDIA_TYPE, BoundTold, EventStream, LiveEvent, RetryTold, Told
from neverstale.client.failures import ApiFailure, TryLater, Unintelligible, Unreachable, problem_of
from neverstale.client.fresh import Fresh, version_of
from neverstale.client.reads import Readable, made
from neverstale.versions import Version

T = TypeVar("T")
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 10.0
SILENCE_SECONDS: Final = 15.0
"""A stream says something each second. One that does not has died without a word."""


class LiveRead(Generic[T]):
    """`async for` yields each state as a `Fresh`; its value is `None` while there is nothing.

    Two states in a row differ. What is overwritten before it was sent may be left out; the last state always comes.
    Where the request makes no sense it raises an `ApiProblem`, where something else answers `Unintelligible`; over
    servers that are away it goes on for ever. Whoever leaves the loop early closes it (`async with`).
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        what: Readable[T],
        demand: Demand,
        seen: Callable[[], Version],
        saw: Callable[[Version], None],
        chance: random.Random,
    ) -> None:
        """`seen`: the version below which nothing will do. `saw` is told of each that comes."""
        self.trouble: ApiFailure | None = None
        """Why there may be nothing new at present; `None`: there is no such reason."""
        self._http = http
        self._what = what
        self._demand = demand
        self._seen = seen
        self._saw = saw
        self._random = chance
        self._bound: tuple[float | None, float] = (None, 0.0)
        """As it was told, and when."""
        self._last: LiveEvent | None = None
        self._pause = FIRST_PAUSE_SECONDS
        self._retry: float | None = None
        self._answer: httpx.Response | None = None
        """Of the connection that there is."""
        self._chunks: AsyncIterator[bytes]
        self._told: EventStream
        self._waiting: deque[Told] = deque()
        """What came and was not looked at yet."""

    @property
    def bound(self) -> float | None:
        """Seconds: how old the last state can be at most, now; `None`: unknown. While the API is silent it grows."""
        seconds, told_at = self._bound
        return None if seconds is None else seconds + time.monotonic() - told_at

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Fresh[T | None]:
        while True:
            try:
                if self._answer is None:
                    await self._connect()
                if (state := await self._next()) is not None:
                    self.trouble, self._pause = None, FIRST_PAUSE_SECONDS
                    return state
            except (TryLater, Unreachable) as failure:
                self.trouble = failure
            except BaseException:
                await self.aclose()
                raise
            await self.aclose()
            await self._wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends the connection."""
        answer, self._answer = self._answer, None
        if answer is not None:
            await answer.aclose()

    async def _connect(self) -> None:
        usual = self._http.timeout
        timeout = httpx.Timeout(connect=usual.connect, read=SILENCE_SECONDS, write=usual.write, pool=usual.pool)
        request = self._http.build_request("GET", self._what.path, headers=self._headers(), timeout=timeout)
        try:
            self._answer = answer = await self._http.send(request, stream=True)
            if answer.status_code != 200:
                raise problem_of(answer.status_code, answer.headers, await answer.aread())
        except httpx.HTTPError as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from error
        if answer.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
            raise Unintelligible("this API has no live reads")
        self._chunks, self._told = answer.aiter_raw(), EventStream()
        self._waiting.clear()

    async def _next(self) -> Fresh[T | None] | None:
        """The next state of this connection; `None`: it has ended."""
        while True:
            while self._waiting:
                if (state := self._heard(self._waiting.popleft())) is not None:
                    return state
            try:
                chunk = await anext(self._chunks, None)
            except httpx.HTTPError as error:
                raise Unreachable(f"{type(error).__name__}: {error}") from error
            if chunk is None:
                return None
            self._waiting += self._told.feed(chunk)

    def _heard(self, told: Told) -> Fresh[T | None] | None:
        match told:
            case BoundTold():
                self._bound = told.seconds, time.monotonic()
            case RetryTold():
                self._retry = told.seconds
            case LiveEvent():
                return self._state(told)
        return None

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": MEDIA_TYPE, "Accept-Encoding": "identity", **self._demand.headers(self._seen())}
        return headers if self._last is None else headers | {"Last-Event-ID": self._last.id}

    def _state(self, event: LiveEvent) -> Fresh[T | None] | None:
        """The state that an event tells; `None`: nothing new."""
        if event.name == "problem":
            self.trouble = _trouble(event.data)
            return None
        version = version_of(event.id)
        if version is None or event.name not in ("message", "absent"):
            return None  # of a later release
        last = self._last
        if last is not None and event.id < last.id:
            return None
        self._last = event
        self._saw(version)
        if last is not None and (last.name, last.data) == (event.name, event.data):
            self.trouble = None
            return None
        value = made(self._what, event.data) if event.name == "message" else None
        bound = self._bound[0]
        age = None if bound is None else math.ceil(bound)
        return Fresh(value, version, bound, age, "unknown", "", None, {})

    async def _wait(self) -> None:
        """Before the next connection: what the API has said, or a time of our own that grows."""
        told, self._retry = self._retry, None
        failure = self.trouble
        if isinstance(failure, TryLater) and failure.retry_after_seconds is not None:
            told = failure.retry_after_seconds
        seconds = max(self._pause, told or 0.0)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        await asyncio.sleep(min(seconds, LONGEST_PAUSE_SECONDS) * self._random.uniform(0.7, 1.3))


def _trouble(data: bytes) -> ApiFailure:
    try:
        members = orjson.loads(data)
        return TryLater(int(members["status"]), members)
    except (LookupError, TypeError, ValueError) as error:
        return Unintelligible(f"a problem of another form: {error}")
