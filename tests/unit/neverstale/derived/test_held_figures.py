"""Counters and rankings as Redis holds them: how few round trips they cost, and what counts as unknown."""

from collections.abc import Sequence
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from neverstale.derived.counters.fields import Group, Sum
from neverstale.derived.counters.held import HeldCounters
from neverstale.derived.held_figures import HeldFigures, Wholeness
from neverstale.derived.rankings.held import MEMBERS_A_CALL, HeldRankings, Ranked, Standing
from neverstale.derived.rankings.members import member_of
from neverstale.derived.redis_names import DerivedNames
from neverstale.errors import Outage
from neverstale.keys import Names
from neverstale.redis.commands import Command, Commands

DERIVED = DerivedNames("ns", "flights")
EPOCH = b"0123456789abcdef"
EPOCH_READ = (b"GETRANGE", b"ns:{flights}:gens", 0, 15)
THERE = [b"", None]
"""The guards of a hash that is whole."""
ONE_SUM = [b"3", b"2", b"17", b"0", None]
"""Documents, numbers, low and high limb, and what the sum cannot hold."""
GROUP = Group(3, (Sum(17, 2),))
A, B, C = (member_of(f"s:{letter}") for letter in "abc")


class ScriptedRedis:
    """Answers one round trip after the other, and notes what was asked."""

    def __init__(self, *trips: list[Any]) -> None:
        self._trips = list(trips)
        self.asked: list[Sequence[Command]] = []

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        self.asked.append(commands)
        return self._trips.pop(0)

    def counters(self) -> HeldCounters:
        return HeldCounters(self.commands(), DERIVED, "g1")

    def rankings(self) -> HeldRankings:
        return HeldRankings(self.commands(), DERIVED, "g1")

    def commands(self) -> Commands:
        return Commands(cast("Redis", None), Names("ns"), round_trip=self.exchange)


def ranked_trip(*replies: Any, count: int = 3, sizes: Sequence[Any] = (b"", None, b"3")) -> list[Any]:
    """The replies to a transaction and to the question for the epoch."""
    return [b"OK", *(b"QUEUED" for _ in (*replies, 1, 2)), [*replies, count, list(sizes)], EPOCH]


async def test_a_group_and_the_epoch_are_one_round_trip_of_twocommands() -> None:
    redis = ScriptedRedis([[*THERE, *ONE_SUM], EPOCH])
    assert await redis.counters().group("by_day", "s:mon", 1) == (GROUP, EPOCH)
    [[asked, epoch]] = redis.asked
    assert asked[:2] == (b"HMGET", b"ns:{flights}:g1:c:by_day")
    assert epoch == EPOCH_READ


@pytest.mark.parametrize("guards", [[None, None], [b"", b"2"]], ids=["lost", "beyond a bound"])
async def test_a_group_of_a_counter_that_is_not_whole_is_unknown(guards: list[Any]) -> None:
    redis = ScriptedRedis([[*guards, *ONE_SUM], EPOCH])
    assert await redis.counters().group("by_day", "s:mon", 1) == (None, EPOCH)


@pytest.mark.parametrize("as_mapping", [True, False], ids=["RESP3", "RESP2"])
async def test_a_whole_counter_is_one_round_trip_however_its_fields_come(as_mapping: bool) -> None:
    held = {b".g": b"", b"n|s:mon": b"3", b"m0|s:mon": b"2", b"l0|s:mon": b"17"}
    redis = ScriptedRedis([held if as_mapping else [part for pair in held.items() for part in pair], EPOCH])
    found, epoch = await redis.counters().counter("by_day", 1)
    assert found is not None
    assert (found.groups(), epoch) == ({"s:mon": GROUP}, EPOCH)
    assert redis.asked == [((b"HGETALL", b"ns:{flights}:g1:c:by_day"), EPOCH_READ)]


@pytest.mark.parametrize("in_pairs", [True, False], ids=["RESP3", "RESP2"])
async def test_the_top_is_one_round_trip_of_a_transaction_and_the_epoch(in_pairs: bool) -> None:
    redis = ScriptedRedis(ranked_trip([[A, -9.0], [B, -7.5]] if in_pairs else [A, b"-9", B, b"-7.5"]))
    found, epoch = await redis.rankings().top("delays", "", 2, descends=True)
    assert found is not None
    assert (found.ranked(), epoch) == ([Ranked("s:a", 9.0, 1), Ranked("s:b", 7.5, 2)], EPOCH)
    [asked] = redis.asked
    assert [command[0] for command in asked] == [b"MULTI", b"ZRANGE", b"ZCARD", b"HMGET", b"EXEC", b"GETRANGE"]


async def test_where_a_document_stands_is_one_round_trip() -> None:
    redis = ScriptedRedis(ranked_trip(1, b"7", [A, b"5"]))
    standing = Standing(Ranked("s:b", 7.0, 2), [])
    assert await redis.rankings().standing("delays", "", "s:b", 0, descends=False) == (standing, EPOCH)
    assert len(redis.asked) == 1


async def test_with_neighbours_it_is_two_round_trips() -> None:
    redis = ScriptedRedis(ranked_trip(1, b"7", [A, b"5"]), ranked_trip(1, b"7", [A, b"5", B, b"7", C, b"8"]))
    one, *others = Ranked("s:b", 7.0, 2), Ranked("s:a", 5.0, 1), Ranked("s:c", 8.0, 3)
    standing = Standing(one, [others[0], one, others[1]])
    assert await redis.rankings().standing("delays", "", "s:b", 1, descends=False) == (standing, EPOCH)
    assert len(redis.asked) == 2


async def test_a_rank_that_keeps_changing_is_unknown_after_three_looks() -> None:
    redis = ScriptedRedis(*(ranked_trip(rank, b"7", [A, b"5"]) for rank in (9, 5, 8)))
    assert await redis.rankings().standing("delays", "", "s:b", 1, descends=False) == (None, EPOCH)
    assert len(redis.asked) == 3


async def test_a_document_that_a_whole_ranking_does_not_have_is_no_unknown() -> None:
    redis = ScriptedRedis(ranked_trip(None, None, []))
    assert await redis.rankings().standing("delays", "", "s:b", 5, descends=False) == (Standing(None, []), EPOCH)


NOT_WHOLE: dict[str, dict[str, Any]] = {
    "evicted": {"count": 0},
    "sizes lost": {"sizes": (None, None, None)},
    "beyond a bound": {"sizes": (b"", b"1", b"3")},
    "no sorted set": {"count": Exception("WRONGTYPE")},
}


@pytest.mark.parametrize("damage", NOT_WHOLE.values(), ids=NOT_WHOLE)
async def test_a_ranking_that_is_not_whole_is_unknown(damage: dict[str, Any]) -> None:
    redis = ScriptedRedis(ranked_trip([A, b"9"], **damage), ranked_trip(0, b"9", [A, b"9"], **damage))
    figures = redis.rankings()
    assert await figures.top("delays", "", 1, descends=False) == (None, EPOCH)
    assert await figures.standing("delays", "", "s:a", 0, descends=False) == (None, EPOCH)


async def test_a_transaction_that_redis_has_thrown_away_is_an_outage() -> None:
    redis = ScriptedRedis([b"OK", b"QUEUED", b"QUEUED", b"QUEUED", None, EPOCH])
    with pytest.raises(Outage):
        await redis.rankings().top("delays", "", 1, descends=False)


@pytest.mark.parametrize(
    ("values", "guard"),
    [([b"", None], Wholeness(True, None)), ([b"", b"4"], Wholeness(True, 4)), ([None, None], Wholeness(False, None))],
)
async def test_a_guard_says_what_may_be_believed(values: list[Any], guard: Wholeness) -> None:
    redis = ScriptedRedis([values])
    assert await HeldFigures(redis.commands(), DERIVED, "g1").wholeness(b"ns:{flights}:g1:c:by_day") == guard
    assert redis.asked[0][0][1] == b"ns:{flights}:g1:c:by_day"


async def test_some_groups_are_one_round_trip_and_unknown_ones_are_left_out() -> None:
    redis = ScriptedRedis([[*THERE, *ONE_SUM], [None, None, *ONE_SUM]])
    assert await redis.counters().groups("by_day", 1, ["s:mon", "s:tue"]) == {"s:mon": GROUP}
    assert len(redis.asked) == 1


async def test_sizes_are_of_groups_only() -> None:
    redis = ScriptedRedis([[b".g", b"", b"s:mon", b"12"]])
    assert await redis.rankings().sizes("delays") == {"s:mon": 12}


@pytest.mark.parametrize("count", [0, 1, MEMBERS_A_CALL - 1, MEMBERS_A_CALL, MEMBERS_A_CALL + 1])
async def test_members_come_some_thousands_a_round_trip_until_there_are_no_more(count: int) -> None:
    everyone = [[b"2%06d" % number, float(number)] for number in range(count)]
    trips = [[everyone[start : start + MEMBERS_A_CALL]] for start in range(0, count + 1, MEMBERS_A_CALL)]
    redis = ScriptedRedis(*trips)
    found = [one async for some in redis.rankings().members("delays", "s:mon") for one in some]
    assert found == [tuple(one) for one in everyone]
    assert len(redis.asked) == len(trips)
