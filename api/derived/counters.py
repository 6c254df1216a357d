"""Counters: how many documents, and the sums of their fields; of one group, of several, or of all.

    {"count": 12, "sums": {"delay_minutes": 340}, "averages": {"delay_minutes": 28.333333333333332}}
    {"groups": [{"by": {"status": "departed"}, "count": 7, ...}, ...], "more": false, "total": {"count": 12, ...}}

A group whose values JSON does not tell says how to ask for it: `{"by": {"at": "1.5"}, "ask": "at:decimal=1.5", …`.
Groups are in the order of their counts, the largest first, equal ones by their values' texts. Totals add up groups;
a document with an array counts once for each of its elements.
"""

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal
from functools import partial
from typing import Any, Final

import orjson

from neverstale.api.derived.figures import Figure, FigureSource
from neverstale.api.derived.generations import Known
from neverstale.api.reads.answer import TooManyGroups
from neverstale.api.reads.source import measured
from neverstale.api.web import typed_values
from neverstale.api.web.query import kind_of
from neverstale.bson.texts import text_of, value_of
from neverstale.catalog import Resource
from neverstale.catalog.declarations import CounterDeclaration
from neverstale.derived import groups
from neverstale.derived.counters import queries
from neverstale.derived.counters.fields import Group
from neverstale.derived.counters.held import HeldCounter, HeldCounters
from neverstale.derived.generations import Generation
from neverstale.derived.queries import aggregate
from neverstale.derived.redis_names import slot_of
from neverstale.mongodb import bson_json
from neverstale.mongodb.kinds import Kind, least_told
from neverstale.mongodb.loader import Loader, Snapshot
from neverstale.redis.cache import Cache
from neverstale.versions import Version

MOST_GROUPS: Final = 10_000
"""More are not read from MongoDB."""
MOST_FIELDS: Final = 20_000
"""A larger hash is not read as a whole: reading it would hold up Redis and this process."""
_WIDE: Final = Context(prec=60, traps=[])
_PLAIN_DIGITS: Final = 40
"""A number of more, before or behind its point, has an exponent."""
FEW_FIELDS: Final = 200
"""Of more, a thread makes the answer."""


@dataclass(frozen=True, slots=True)
class CountKey:
    """What is asked of a counter."""

    canonical: str
    values: Mapping[str, Any] = field(compare=False)
    """Only groups with these values."""
    kept: tuple[str, ...] = field(compare=False)
    """The fields that make the groups of the answer; the others are added up."""
    single: bool = field(compare=False)
    """One count is wanted, not a list of groups."""
    limit: int = field(compare=False)


@dataclass(slots=True)
class Total:
    """The documents and sums of some groups together."""

    documents: int
    sums: list[Decimal | None]
    """`None`: unknown."""
    numbers: list[int]

    def add(self, other: "Total") -> None:
        self.documents += other.documents
        for i, (mine, theirs) in enumerate(zip(self.sums, other.sums, strict=True)):
            self.sums[i] = None if mine is None or theirs is None else _WIDE.add(mine, theirs)
            self.numbers[i] += other.numbers[i]


def counters_of(resource: Resource) -> "list[CounterSource]":
    return [CounterSource(resource, name, declared) for name, declared in resource.counters.items()]


class CounterSource(FigureSource):
    """One counter (`neverstale.api.derived.figures.Figure`)."""

    def __init__(self, resource: Resource, counter: str, declared: CounterDeclaration) -> None:
        super().__init__(resource, f"counters.{counter}")
        self.declared = declared
        self.counter = counter
        self._declared = {path: kind_of(path, resource) for path in declared.by}

    def key(self, values: Mapping[str, Any], kept: Sequence[str] | None, limit: int) -> CountKey:
        """`kept`: the fields that make groups; default: all that have no value."""
        shown = tuple(path for path in self.declared.by if path not in values) if kept is None else tuple(kept)
        texts = [f"{path}={text_of(value)}" for path, value in values.items()]
        return CountKey(groups.SPLIT.join([*texts, "|".join(shown), str(limit)]), values, shown, not shown, limit)

    def slot(self, key: CountKey) -> bytes:
        if len(key.values) < len(self.declared.by):
            return b""
        return slot_of(groups.group([text_of(key.values[path]) for path in self.declared.by]))

    # --- Redis

    async def look(self, cache: Cache, known: Known, key: CountKey) -> Figure | None:
        generation = self.generation(known)
        if generation is None:
            return None
        figures, sums = HeldCounters(cache, known.names, generation.id), len(self.declared.sums)
        if len(key.values) == len(self.declared.by):
            name = groups.group([text_of(key.values[path]) for path in self.declared.by])
            one = await figures.group(self.counter, name, sums)
            if not await known.kept(generation, one.epoch) or one.found is None:
                return None
            return self._told(generation, key, {name: one.found} if one.found.documents else {})
        size = await figures.size(self.counter)
        if size > MOST_FIELDS:
            return None
        whole = await figures.counter(self.counter, sums)
        if not await known.kept(generation, whole.epoch) or whole.found is None:
            return None
        work = partial(self._told_of_all, generation, key, whole.found)
        # Thousands of groups would hold up the event loop for longer than anybody should wait.
        return await asyncio.to_thread(work) if size > FEW_FIELDS else work()

    def _told_of_all(self, generation: Generation, key: CountKey, whole: HeldCounter) -> Figure | None:
        held = whole.groups()
        return None if held is None else self._told(generation, key, held)

    def _told(self, generation: Generation, key: CountKey, held: Mapping[str, Group]) -> Figure | None:
        if any(one.documents < 0 for one in held.values()):
            raise ValueError("fewer documents than none")
        # A generation numbers its sums in the order of its own text, which need not be the catalog's.
        order = list(generation.shape.declared.counters[self.counter].sums)
        totals = self._selected(held, key, [order.index(name) for name in self.declared.sums])
        if any(total is None for one in totals.values() for total in one.sums):
            return None
        return Figure(self._body(key, totals))

    def _selected(self, held: Mapping[str, Group], key: CountKey, order: Sequence[int]) -> dict[str, Total]:
        by = self.declared.by
        wanted = [(by.index(path), text_of(value)) for path, value in key.values.items()]
        places = [by.index(path) for path in key.kept]
        totals: dict[str, Total] = {}
        for name, one in held.items():
            texts = groups.members(name, len(by))
            if all(texts[place] == text for place, text in wanted):
                row = self._total(one, order)
                self._add(totals, groups.group([texts[place] for place in places]), row)
        return totals

    def _total(self, one: Group, order: Sequence[int]) -> Total:
        held = [one.sums[place] for place in order]
        sums = [
            None if total.scaled is None else Decimal(total.scaled).scaleb(-declared.scale, _WIDE)
            for total, declared in zip(held, self.declared.sums.values(), strict=True)
        ]
        return Total(one.documents, list(sums), [total.numbers for total in held])

    @staticmethod
    def _add(totals: dict[str, Total], name: str, row: Total) -> None:
        held = totals.get(name)
        if held is None:
            totals[name] = row
        else:
            held.add(row)

    # --- MongoDB

    @measured
    async def load(self, loader: Loader, keys: Sequence[CountKey], at_least: Version) -> Snapshot:
        """All at the version of the first."""
        bodies: dict[str, bytes] = {}
        version: Version = 0
        kinds: list[Kind] = []
        for key in keys:
            stages = queries.counter_groups(self.declared, key.values, key.kept, MOST_GROUPS + 1)
            command = aggregate(self.collection, stages, MOST_GROUPS + 1)
            found = await loader.query(command, at_least, version)
            version = found.version
            kinds.append(found.kind)
            if found.cut or len(found.rows) > MOST_GROUPS:
                raise TooManyGroups
            body = partial(self._body_of, key, found.rows)
            many = len(found.rows) > FEW_FIELDS
            bodies[key.canonical] = await asyncio.to_thread(body) if many else body()
        return Snapshot(version, bodies, kind=least_told(kinds))

    def _body_of(self, key: CountKey, found: Iterable[Mapping[str, Any]]) -> bytes:
        totals: dict[str, Total] = {}
        for each in found:
            row = queries.read_counter_row(each, len(key.kept), len(self.declared.sums))
            self._add(totals, row.group, Total(row.documents, list(row.sums), list(row.numbers)))
        return self._body(key, totals)

    # --- bodies

    def _body(self, key: CountKey, totals: Mapping[str, Total]) -> bytes:
        total = self._sum_of(totals.values())
        if key.single:
            return b"{%b}" % self._members(total)
        ordered = sorted(totals.items(), key=lambda item: (-item[1].documents, item[0]))
        if len(ordered) > MOST_GROUPS:
            raise TooManyGroups
        shown = []
        for name, one in ordered[: key.limit]:
            texts = groups.members(name, len(key.kept))
            values = dict(zip(key.kept, map(value_of, texts), strict=True))
            shown.append(b'{"by":%b%b,%b}' % (bson_json.encode(values), self._asked(values), self._members(one)))
        more = b"true" if len(ordered) > key.limit else b"false"
        return b'{"groups":[%b],"more":%b,"total":{%b}}' % (b",".join(shown), more, self._members(total))

    def _asked(self, values: Mapping[str, Any]) -> bytes:
        """How to ask for a group whose values JSON does not tell."""
        question = typed_values.question(values, self._declared)
        return b"" if question == "" else b',"ask":%b' % orjson.dumps(question)

    def _sum_of(self, totals: Iterable[Total]) -> Total:
        count = len(self.declared.sums)
        whole = Total(0, [Decimal(0)] * count, [0] * count)
        for one in totals:
            whole.add(one)
        return whole

    def _members(self, one: Total) -> bytes:
        sums, averages = [], []
        for (name, declared), total, numbers in zip(self.declared.sums.items(), one.sums, one.numbers, strict=True):
            sums.append(f'"{name}":{_number(total, declared.scale)}')
            averages.append(f'"{name}":{_average(total, numbers)}')
        text = f'"count":{one.documents},"sums":{{{",".join(sums)}}}'
        if averages:
            text += f',"averages":{{{",".join(averages)}}}'
        return text.encode()


def _number(total: Decimal | None, scale: int) -> str:
    """With the declared decimal places, or more if it has them; `null` for what no reader of JSON can hold."""
    if total is None or not math.isfinite(float(total)):
        return "null"
    if not total:
        total = Decimal(0)
    if not -_PLAIN_DIGITS < total.adjusted() < _PLAIN_DIGITS:
        return f"{total.normalize(_WIDE):E}"
    shown = total.quantize(Decimal(1).scaleb(-scale), context=_WIDE)
    return f"{shown if shown == total else total.normalize(_WIDE):f}"


def _average(total: Decimal | None, numbers: int) -> str:
    """A double; `null` without numbers, and for what is none."""
    average = float(_WIDE.divide(total, Decimal(numbers))) if total is not None and numbers else math.nan
    return repr(average) if math.isfinite(average) else "null"
