"""Streams that end and changes that do not come cost what they cost, and not all figures."""

import asyncio

from benchmarks.live import figures
from benchmarks.watchers import Watchers, moments


async def test_a_stream_that_ended_is_not_waited_for_and_not_counted() -> None:
    crowd = Watchers(b"/", 3)
    waiting = asyncio.create_task(crowd.until_all(1, 60))
    await asyncio.sleep(0)
    crowd.saw(1)
    crowd.saw(1)
    assert not waiting.done()
    crowd.lost()
    times = await waiting
    assert len(times) == 2
    assert len(moments(times, 3)) == 2, "of the first and of half, not of all"


async def test_a_change_that_reaches_nobody_ends_with_its_time() -> None:
    assert await Watchers(b"/", 2).until_all(1, 0.01) == []


def test_first_half_most_and_all_are_told_apart() -> None:
    assert moments([float(at) for at in range(200)], 200) == [0, 100, 198, 199]


def test_what_did_not_come_is_counted_and_the_others_figures_stand() -> None:
    found = figures([[1, 2, 3, 4], [3, 4], [], [2, 3, 7, 8]], 90, 100, 10, reads=8, held=900)
    assert (found.streams, found.unopened, found.changes, found.unmade, found.incomplete) == (90, 10, 4, 6, 2)
    assert (found.first_ms, found.half_ms, found.most_ms, found.last_ms, found.spread_ms) == (2, 3, 5, 6, 5)
    assert (found.reads_per_change, found.bytes_per_stream, found.whole) == (2, 10, False)


def test_without_any_change_there_is_still_the_memory_of_a_stream() -> None:
    found = figures([], 100, 100, 10, reads=0, held=900)
    assert (found.first_ms, found.spread_ms, found.bytes_per_stream, found.whole) == (None, None, 9, False)
