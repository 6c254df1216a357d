"""What a backlog that does not drain in time reports."""

import itertools
from collections.abc import Awaitable, Callable

import pytest

from benchmarks import backlog
from benchmarks.backlog import drained, until_moved


def look(*counts: int) -> Callable[[], Awaitable[int]]:
    """One after the other; the last again and again."""
    following = itertools.chain(counts, itertools.repeat(counts[-1]))

    async def applied() -> int:
        return next(following)

    return applied


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "LOOK_SECONDS", 0.0)


async def test_what_drains_leaves_nothing_behind() -> None:
    drain = await drained(look(10, 500, 990, 1000), lambda: 995, 10, 60)
    assert (drain.applied, drain.behind) == (990, 0)


async def test_what_was_applied_is_reported_when_the_time_is_over() -> None:
    drain = await drained(look(10, 500, 600), lambda: 995.5, 10, 0.01)
    assert (drain.applied, drain.behind) == (590, 396)
    assert drain.seconds >= 0.01
    measured = backlog.Measured(60, 2000, 985, 1.0, drain, 0.1, 0.2)
    assert not measured.good
    assert "the time was over, and 396 were not applied" in backlog.show(measured)


async def test_a_consumer_that_never_moves_again_is_said() -> None:
    assert await until_moved(look(5, 5, 7), 5, 60) == 7
    with pytest.raises(SystemExit, match=r"nothing was applied within 0\.01 s"):
        await until_moved(look(5), 5, 0.01)
