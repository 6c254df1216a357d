"""The asynchronous client: every read of the API, typed, with what is known of its age.

```python
async with AsyncClient("http://127.0.0.1:8000") as api:
    flight = await api.get("flights", "2013-02-08:UA650:LGA")
    async for page in api.pages("flights", "departures", {"origin": "JFK", "day": "2013-02-08"}):
        print(page.value.items, page.bound)
```
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx

from neverstale.client import reads
from neverstale.client.bearer import Bearer, BearerAuth
from neverstale.client.demands import ANY, Demand
from neverstale.client.failures import (
    ABSENT,
    ApiFailure,
    ApiProblem,
    TryLater,
    Unreachable,
    problem_of,
)
from neverstale.client.fresh import Fresh, fresh_of
from neverstale.client.live import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, LiveRead
from neverstale.client.reads import By, GroupCount, GroupCounts, Json, Key, ListPage, RankedKey, Readable
from neverstale.client.session import Session
from neverstale.versions import Version

T = TypeVar("T")
TIMEOUT_SECONDS: Final = 10.0


class AsyncClient:
    """One API, read by one reader.

    **Time never goes backwards for it**: what it has seen once, it demands of every later answer (`session`), from
    whichever process of the API that comes. Every method raises an `ApiFailure` where there is no answer.
    """

    def __init__(
        self,
        url: str,
        *,
        session: Session | None = None,
        monotonic: bool = True,
        tries: int = 3,
        timeout_seconds: float = TIMEOUT_SECONDS,
        connections: int = 100,
        bearer: Bearer | None = None,
        headers: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        pause: random.Random | None = None,
    ) -> None:
        """`session`: what its reader has seen and written so far. `monotonic` false: answers demand nothing of later
        ones, and only what was written is demanded. `tries`: what may succeed later is asked for so many times in
        all, with pauses that grow. `connections`: at most so many at once; each live read has one. `bearer`: a key, a
        token, or who is asked for one before each request. `headers`: of every request. `transport`: of httpx, for
        tests."""
        self.session = Session() if session is None else session
        self._monotonic = monotonic
        self._tries = tries
        self._random = pause or random.Random()
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx.AsyncClient(
            base_url=url,
            auth=None if bearer is None else BearerAuth(bearer),
            timeout=timeout_seconds,
            limits=limits,
            headers=headers,
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    # --- what can be read

    async def get(self, resource: str, key: Key, demand: Demand = ANY) -> Fresh[Json | None]:
        """Returns one document; its value is `None` if there is none."""
        return await self.read(reads.document(resource, key), demand)

    async def get_many(
        self, resource: str, keys: Sequence[Key], demand: Demand = ANY
    ) -> Fresh[dict[Key, Json | None]]:
        """Returns any number of documents, asked for 200 at a time. Its bound is the widest of its parts."""
        distinct = list(dict.fromkeys(keys))
        found: dict[Key, Json | None] = {}
        parts: list[Fresh[Any]] = []
        for some in reads.portions(distinct):
            part = await self._read(reads.documents(resource, some), demand)
            found |= part.value
            parts.append(part)
        if not parts:
            raise ValueError("no key is asked for")
        return _together(found, parts)

    async def lookup(self, resource: str, field: str, value: Any, demand: Demand = ANY) -> Fresh[Json | None]:
        """Returns the document that has this value; raises `Ambiguous` if several have."""
        return await self.read(reads.by_field(resource, field, value), demand)

    async def page(
        self, resource: str, name: str, by: By | None = None, cursor: str | None = None, demand: Demand = ANY
    ) -> Fresh[ListPage]:
        """Returns a page of a list; `cursor`: `next` of the one before it."""
        return await self._read(reads.page(resource, name, by or {}, cursor), demand)

    async def pages(
        self, resource: str, name: str, by: By | None = None, demand: Demand = ANY
    ) -> AsyncGenerator[Fresh[ListPage], None]:
        """Yields all pages of a list, each read when it is wanted."""
        cursor: str | None = None
        while True:
            page = await self.page(resource, name, by, cursor, demand)
            yield page
            cursor = page.value.next
            if cursor is None:
                return

    async def count(self, resource: str, name: str, by: By | None = None, demand: Demand = ANY) -> Fresh[GroupCount]:
        """Returns the count and the sums of one group: `by` has a value for every field of the counter."""
        return await self._read(reads.count(resource, name, by or {}), demand)

    async def counts(
        self,
        resource: str,
        name: str,
        by: By | None = None,
        *,
        group: Sequence[str] | None = None,
        limit: int | None = None,
        demand: Demand = ANY,
    ) -> Fresh[GroupCounts]:
        """Returns the groups that the fields without a value make, or those in `group`; the largest first."""
        return await self._read(reads.counts(resource, name, by or {}, group, limit), demand)

    async def ranking(
        self, resource: str, name: str, by: By | None = None, *, limit: int | None = None, demand: Demand = ANY
    ) -> Fresh[list[RankedKey]]:
        """Returns who leads."""
        return await self._read(reads.ranking(resource, name, by or {}, limit), demand)

    async def rank(
        self,
        resource: str,
        name: str,
        key: Key,
        by: By | None = None,
        *,
        around: int | None = None,
        demand: Demand = ANY,
    ) -> Fresh[RankedKey | None]:
        """Returns the place of one document; its value is `None` if it has none."""
        return await self.read(reads.rank(resource, name, key, by or {}, around), demand)

    def live(self, what: Readable[T], demand: Demand = ANY) -> LiveRead[T]:
        """Returns the states of anything that `neverstale.client.reads` spells, as they come.

        ```python
        async with api.live(reads.document("flights", "2013-02-08:UA650:LGA")) as flight:
            async for state in flight:
                print(state.value, state.bound)
        ```
        """
        return LiveRead(self._http, what, demand, lambda: self.session.version, self._saw, self._random)

    async def read(self, what: Readable[T], demand: Demand = ANY) -> Fresh[T | None]:
        """Returns whatever `neverstale.client.reads` spells."""
        pause = FIRST_PAUSE_SECONDS
        for left in reversed(range(self._tries)):
            try:
                return await self._once(what, demand)
            except (TryLater, Unreachable) as failure:
                if not left:
                    raise
                pause = await self._pause(pause, failure)
        raise ValueError("tries is at least 1")

    # --- how

    async def _read(self, what: Readable[T], demand: Demand) -> Fresh[T]:
        """What is never absent."""
        found = await self.read(what, demand)
        assert found.value is not None
        return found  # type: ignore[return-value]

    async def _once(self, what: Readable[T], demand: Demand) -> Fresh[T | None]:
        headers = {"Accept": "application/json", **demand.headers(self.session.version)}
        try:
            answer = await self._http.get(what.path, headers=headers)
        except httpx.HTTPError as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from error
        value: T | None = None
        if answer.status_code == 200:
            value = reads.made(what, answer.content)
        else:
            failure = problem_of(answer.status_code, answer.headers, answer.content)
            is_absent = isinstance(failure, ApiProblem) and failure.type == ABSENT and what.may_be_absent
            if not is_absent:
                raise failure
        found = fresh_of(value, answer.headers)
        if found.version is not None:
            self._saw(found.version)
        return found

    def _saw(self, version: Version) -> None:
        if self._monotonic:
            self.session.version = max(self.session.version, version)

    async def _pause(self, seconds: float, failure: ApiFailure) -> float:
        """Waits for as long as the API says, or a time of our own; returns how long to wait the next time."""
        told = failure.retry_after_seconds if isinstance(failure, TryLater) else None
        most = min(max(seconds, told or 0), LONGEST_PAUSE_SECONDS)
        await asyncio.sleep(most * self._random.uniform(0.5, 1.0) if told is None else most)
        return min(2 * seconds, LONGEST_PAUSE_SECONDS)


def _together(value: T, parts: Sequence[Fresh[Any]]) -> Fresh[T]:
    """Says of several answers what holds of all: the widest bound, the highest version, the least of a hit."""
    order = ("hit", "miss", "stale", "request", "bypass", "unknown")
    least = max(parts, key=lambda part: order.index(part.how))
    bounds, ages = [part.bound for part in parts], [part.age for part in parts]
    versions = [part.version for part in parts]
    return Fresh(
        value,
        None if None in versions else max(version for version in versions if version is not None),
        None if None in bounds else max(bound for bound in bounds if bound is not None),
        None if None in ages else max(age for age in ages if age is not None),
        least.how,
        least.detail,
        parts[0].etag if len(parts) == 1 else None,
        parts[0].headers if len(parts) == 1 else {},
    )
