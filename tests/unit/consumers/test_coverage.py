"""What a consumer makes up for before it takes over from one of another catalog."""

from typing import cast

from neverstale.catalog import Catalog
from neverstale.catalog.coverage import Coverage
from neverstale.consumers.coverage import Coverages
from neverstale.consumers.records.batch import Batch
from neverstale.kafka.events import Mark
from neverstale.redis.corrections import Corrections

OLD = Catalog.model_validate(
    {"database": "d", "resources": {"a": {"key_type": "int", "fields": {"x": "int"}}, "b": {"key_type": "int"}}}
)
NEW = Catalog.model_validate({"database": "d", "resources": {"a": {"key_type": "int"}, "b": {"key_type": "int"}}})
MARK = Mark(5, 50, 2, 1)


class Texts:
    def __init__(self, *coverages: Coverage) -> None:
        self._held = {coverage.digest: coverage.text for coverage in coverages}

    async def coverages(self, group: str, digests: list[str]) -> dict[str, str | None]:
        return {digest: self._held.get(digest) for digest in digests}


def coverages(catalog: Catalog, *held: Coverage) -> Coverages:
    return Coverages(cast("Corrections", Texts(*held)), "group", catalog)


async def void(ours: Coverages, *partitions: int) -> set[str]:
    batch = Batch(marks=dict.fromkeys(partitions, MARK))
    await ours.make_up(batch)
    return batch.forget


async def test_what_the_other_one_may_have_skipped_is_void_and_nothing_else() -> None:
    old = Coverage.of(OLD, None)
    ours = coverages(NEW, old)
    assert await void(ours, 0) == set()
    ours.found([0, 1], {1: old.digest})
    assert await void(ours, 0) == set()
    assert await void(ours, 0, 1) == {"a"}
    assert ours.made_up == {1: old.digest}
    ours.found([1], {})
    assert await void(ours, 1) == set()


async def test_who_covers_less_takes_over_from_who_covers_more_for_nothing() -> None:
    new = Coverage.of(NEW, None)
    ours = coverages(OLD, new)
    ours.found([0], {0: new.digest})
    assert await void(ours, 0) == set()
    assert ours.made_up == {0: new.digest}


async def test_a_coverage_that_nobody_can_read_makes_all_void() -> None:
    ours = coverages(NEW)
    ours.found([0], {0: "f" * 16})
    assert await void(ours, 0) == {"a", "b"}


def test_a_watcher_that_does_not_watch_a_collection_narrows_the_coverage() -> None:
    ours = coverages(NEW)
    assert ours.of(MARK) == Coverage.of(NEW, None)
    assert ours.of(Mark(5, 50, 2, 1, None, ("b",))) == Coverage.of(NEW, ("b",)) != ours.of(MARK)
