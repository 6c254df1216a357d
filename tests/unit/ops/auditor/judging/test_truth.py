"""The truth: what is no state of the moment that was asked for is none."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from neverstale.api.reads.source import Source
from neverstale.mongodb.loader import Snapshot
from neverstale.ops.auditor.judging.timeline import Timeline
from neverstale.ops.auditor.judging.truth import NoPast, ReadBudget, Truth


class Client(dict[str, Any]):
    def __missing__(self, _: str) -> Any:
        return SimpleNamespace()


def truth() -> Truth:
    return Truth(cast("Any", Client()), "db", 1000, cast("Any", object()), Timeline(), ReadBudget(1000))


def holding(version: int) -> Source:
    async def load(*_: Any) -> Snapshot:
        return Snapshot(version, {})

    return cast("Source", SimpleNamespace(load=load, keys_a_read=500))


async def test_a_collection_that_is_gone_has_no_past() -> None:
    """It is read at no version, and says of every moment that there was nothing."""
    with pytest.raises(NoPast):
        await truth().at(holding(0), ["a"], 7)
    assert (await truth().at(holding(7), ["a"], 7)).version == 7
