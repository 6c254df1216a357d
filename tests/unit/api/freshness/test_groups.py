"""Each resource has the freshness of its own watcher group."""

from typing import cast

import pytest

from neverstale.api.freshness.bound import Bounds
from neverstale.api.freshness.groups import GroupedFreshness
from neverstale.api.freshness.watermark import Freshness
from neverstale.catalog import Catalog
from neverstale.mongodb.primary_clock import PrimaryClock

CATALOG = Catalog.model_validate(
    {
        "database": "shop",
        "resources": {"flights": {"key_type": "string"}, "orders": {"key_type": "int"}},
        "watchers": {"orders": {"collections": ["orders"]}},
    }
)


class OneGroup:
    """What is known of one group."""

    def __init__(self, watermark: int | None, identity: str | None = "redis-1") -> None:
        self.watermark = watermark
        self.identity = identity

    def covers(self, digest: str) -> bool:
        return digest == "all"


def grouped(default: OneGroup, orders: OneGroup) -> GroupedFreshness:
    groups = {"default": cast("Freshness", default), "orders": cast("Freshness", orders)}
    return GroupedFreshness(CATALOG, groups, Bounds(PrimaryClock()))


def test_a_source_has_the_freshness_of_its_resource_s_group() -> None:
    default, orders = OneGroup(5), OneGroup(7)
    both = grouped(default, orders)
    for source, of in (("flights", default), ("flights.lists.departures", default), ("orders.counters.n", orders)):
        assert cast("object", both.of(source)) is of


@pytest.mark.parametrize(("one", "other", "least"), [(5, 7, 5), (7, 5, 5), (None, 7, None), (5, None, None)])
def test_all_misses_nothing_up_to_where_no_group_does(one: int | None, other: int | None, least: int | None) -> None:
    assert grouped(OneGroup(one), OneGroup(other)).watermark == least


def test_a_redis_is_known_when_all_groups_agree() -> None:
    assert grouped(OneGroup(1), OneGroup(1)).identity == "redis-1"
    assert grouped(OneGroup(1), OneGroup(1, "redis-2")).identity is None
    assert grouped(OneGroup(1), OneGroup(1, None)).identity is None


def test_of_a_group_that_is_not_declared_nobody_covers_anything() -> None:
    both = grouped(OneGroup(1), OneGroup(1))
    assert [both.covers(group, "all") for group in ("default", "orders", "bills")] == [True, True, False]
