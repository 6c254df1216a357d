"""Totals: how many documents a list's group has, told by a counter that counts just these.

A counter does if it is counted by the fields of `by` and of `where`: its group with the values that a page has, and
with the list's constants, holds the documents of the list's group and no others.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from neverstale.api.derived.counters import CounterSource, CountKey
from neverstale.api.reads.answer import Answer
from neverstale.catalog import Resource
from neverstale.catalog.declarations import ListDeclaration


class Totals:
    """The totals of one list."""

    def __init__(self, declared: ListDeclaration, counts: CounterSource) -> None:
        self.counts = counts
        self._by = declared.by
        self._where = declared.where

    def key(self, values: Sequence[Any]) -> CountKey:
        """What to ask of the counter. `values`: of the group, one for each field of `by`."""
        return self.counts.key(dict(zip(self._by, values, strict=True)) | self._where, None, 0)


def totals_of(resource: Resource, list_name: str, counters: Iterable[CounterSource]) -> Totals | None:
    """`None`: no counter counts just the documents of this list's groups."""
    declared = resource.lists[list_name]
    fields = {*declared.by, *declared.where}
    found = next((one for one in counters if set(one.declared.by) == fields), None)
    return None if found is None else Totals(declared, found)


def wanted_counter(declared: ListDeclaration) -> str:
    """The counter that would tell, as the catalog spells its fields."""
    return "by = [" + ", ".join(f'"{path}"' for path in (*declared.by, *declared.where)) + "]"


def count_in(answer: Answer) -> int:
    """The number of documents in a counter's answer about one group."""
    count: int = orjson.loads(answer.body or b'{"count":0}')["count"]
    return count
