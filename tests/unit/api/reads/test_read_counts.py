"""Reads that wait in the process."""

import asyncio
from collections.abc import Mapping
from typing import cast

import pytest

from neverstale.api.reads import read_counts
from neverstale.api.reads.read_counts import ReadCounts
from neverstale.errors import Outage
from neverstale.keys import Names
from neverstale.redis.most_read import DOCUMENTS_A_CALL, Popularity

NAMES = Names("p:x")


class Told:
    """Takes reads, unless it is away."""

    def __init__(self) -> None:
        self.away = self.slow = False
        self.reads: dict[tuple[str, str], int] = {}

    async def add(self, resource: str, reads: Mapping[str, int]) -> None:
        if self.away:
            raise Outage("redis", "away")
        if self.slow:
            await asyncio.sleep(60)
        for key, count in reads.items():
            self.reads[resource, key] = self.reads.get((resource, key), 0) + count


def made() -> tuple[ReadCounts, Told]:
    told = Told()
    return ReadCounts(NAMES, cast("Popularity", told)), told


async def test_each_read_is_told_once() -> None:
    counts, told = made()
    counts.saw(NAMES.entry("things", "s:a:d:b"), 2)
    counts.saw(NAMES.entry("things", "s:a:d:b"))
    counts.saw(NAMES.entry("others", "i:1"))
    await counts.tell()
    await counts.tell()
    assert told.reads == {("things", "s:a:d:b"): 3, ("others", "i:1"): 1}


async def test_what_is_not_taken_is_told_later() -> None:
    counts, told = made()
    counts.saw(NAMES.entry("things", "s:a"))
    told.away = True
    await counts.tell()
    counts.saw(NAMES.entry("things", "s:a"))
    told.away = False
    await counts.tell()
    assert told.reads == {("things", "s:a"): 2}


async def test_only_so_many_documents_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_counts, "MOST_WAITING", 2)
    counts, told = made()
    for key in "abca":
        counts.saw(NAMES.entry("things", f"s:{key}"))
    await counts.tell()
    assert told.reads == {("things", "s:a"): 2, ("things", "s:b"): 1}


async def test_who_is_cancelled_while_telling_tells_the_rest_later() -> None:
    counts, told = made()
    for number in range(3 * DOCUMENTS_A_CALL):
        counts.saw(NAMES.entry("things", f"i:{number}"))
    told.slow = True
    telling = asyncio.create_task(counts.tell())
    await asyncio.sleep(0)
    telling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await telling
    told.slow = False
    await counts.tell()
    # Of those that were under way nobody knows whether they were taken.
    assert len(told.reads) >= 2 * DOCUMENTS_A_CALL
    assert set(told.reads.values()) == {1}
