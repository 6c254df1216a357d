"""Batches: records as they come from Kafka, folded into what Redis has to be told.

Folding is pure, and the hot loop of a consumer: one pass over the records, no object for each of them. Of the
changes of one document only the newest counts, so a batch names every entry at most once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

import orjson

from neverstale.catalog import Catalog, OnChange, Resource
from neverstale.consumers.most_read import Favourites
from neverstale.consumers.records.poison import NOTHING, Poison, Record, read
from neverstale.consumers.records.watched import WatchedCollection, touches, watched_by
from neverstale.derived.plan import Said
from neverstale.kafka.events import FORMAT, OPERATIONS, Change, Floor, Mark, Rebuilt, Touch
from neverstale.keys import Names, type_prefix
from neverstale.versions import LATEST, Version, to_hex

REFRESH: Final[dict[OnChange, str]] = {"invalidate": "n", "refresh": "r", "auto": "t"}
"""What `invalidate.lua` is told about handing out leases."""
HEX_DIGITS: Final = "0123456789abcdef"
ANY_TERM: Final = 2**63

Newest: TypeAlias = dict[str, dict[str, str]]
"""Collection -> canonical key -> version as text, whose order is that of time."""


class Doubtful(NamedTuple):
    """A mark of a term that is not known to have been held."""

    partition: int
    record: Record
    mark: Mark


Told: TypeAlias = dict[tuple[str, int], dict[str, list[Said]]]
"""Collection and partition -> canonical key -> what was said, in order. Of collections with derived data only."""


@dataclass(frozen=True, slots=True)
class Span:
    """The entries of one resource in a batch: `keys[start:end]`."""

    resource: Resource
    start: int
    end: int


@dataclass(slots=True)
class Batch:
    """What a run of records asks of Redis; nothing of it depends on the records' order."""

    keys: list[bytes] = field(default_factory=list)
    """Entries to invalidate, each once."""
    versions_and_refresh: list[str] = field(default_factory=list)
    """Two for each key, as `Cache.invalidate` takes them."""
    spans: list[Span] = field(default_factory=list)
    highest: Version = 0
    """The highest version of all changes and floors."""
    floors: dict[str, Version] = field(default_factory=dict)
    lost: dict[str, Version] = field(default_factory=dict)
    """Those of the floors that say that changes may never be told."""
    forget: set[str] = field(default_factory=set)
    """Collections of which something may have been said that was lost: void until the present is known."""
    marks: dict[int, Mark] = field(default_factory=dict)
    """Partition -> its last mark."""
    doubtful: list[Doubtful] = field(default_factory=list)
    """Such a batch is settled before it is applied (`Folding.settle_marks`)."""
    told: Told = field(default_factory=dict)
    rebuilt: list[tuple[int, Rebuilt]] = field(default_factory=list)
    """Partitions that a walk has passed to its end."""
    begins: dict[int, int] = field(default_factory=dict)
    """Partition -> the offset from which on this is all that there is to tell; none where what was before is void."""
    offsets: dict[int, int] = field(default_factory=dict)
    """Partition -> the offset to go on at when all this is applied."""
    poison: list[Poison] = field(default_factory=list)
    """Such a batch is settled before it is applied (`Folding.settle`)."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Reason -> records that need nothing."""
    changes: int = 0
    touches: int = 0
    floor_records: int = 0
    mark_records: int = 0
    oldest_wall_ms: int | None = None
    """Wall time of the oldest change, by the primary's clock."""
    newest: Newest = field(default_factory=dict)
    """What `keys` were spelled from."""
    parts: dict[int, "Batch"] = field(default_factory=dict)
    """Partition -> its own batch, where each partition has a cell of its own; all else but offsets stands there."""

    @property
    def records(self) -> int:
        walked = self.touches + len(self.rebuilt)
        told = self.changes + self.floor_records + self.mark_records + walked
        return told + len(self.poison) + len(self.doubtful) + sum(self.skipped.values())

    @property
    def asks_nothing(self) -> bool:
        """Redis need not be told of it."""
        if self.parts:
            return all(part.asks_nothing for part in self.parts.values())
        return not (self.keys or self.floors or self.forget or self.marks or self.told or self.rebuilt)

    @property
    def derives(self) -> bool:
        """Lists, counters and rankings may have to follow."""
        return bool(self.told or self.rebuilt or self.lost or self.forget)

    def skip(self, reason: str) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + 1


class Folding:
    """Folds records into batches. Remembers nothing between them but the newest term of each partition's marks.

    `latest` returns the latest version that can be real (`neverstale.consumers.records.horizon`). `office`: the
    highest term that is known to have been held (`neverstale.consumers.records.terms`). `apart`: each partition's
    records make a batch of their own, a part of what is returned.
    """

    def __init__(
        self,
        catalog: Catalog,
        names: Names,
        latest: Callable[[], Version] = lambda: LATEST,
        favourites: Favourites | None = None,
        office: int = ANY_TERM,
        *,
        apart: bool = False,
    ) -> None:
        self._latest = latest
        self._apart = apart
        self._favourites = favourites or Favourites()
        self._database = catalog.database
        self._watched = {name: watched_by(catalog.of_collection(name)) for name in catalog.collections}
        self._names = names
        self._terms: dict[int, int] = {}
        self._office = office

    def fold(self, fetched: Mapping[Any, Sequence[Record]]) -> Batch:
        """`fetched`: topic partition -> records in order, all of one topic, as `getmany` returns them."""
        if not self._apart:
            return self._fold(fetched)
        found = {at.partition: self._fold({at: records}) for at, records in fetched.items() if records}
        return _of_parts(found)

    def _fold(self, fetched: Mapping[Any, Sequence[Record]]) -> Batch:
        batch = Batch(newest={collection: {} for collection in self._watched})
        latest = self._latest()
        for topic_partition, records in fetched.items():
            if records:
                partition: int = topic_partition.partition
                self._fold_partition(partition, records, latest, batch)
                batch.begins[partition] = records[0].offset
                batch.offsets[partition] = records[-1].offset + 1
        self._spell_out(batch)
        return batch

    def settle(self, batch: Batch, present: Version | None) -> None:
        """Have all invalidated of which its poison may speak: as of the present, which is later than any change that
        was published. `None`: not known; what it may concern becomes void until it is.

        What only seemed to lie in the future is poison no more.
        """
        poison, batch.poison = batch.poison, []
        for each in poison:
            if present is None:
                batch.forget |= each.concern.collections
            else:
                self._distrust(each, present, batch)
            if present is not None and each.version is not None and each.version <= present:
                batch.skip("ahead")
            else:
                batch.poison.append(each)
        self._spell_out(batch)

    def _distrust(self, poison: Poison, present: Version, batch: Batch) -> None:
        if poison.concern.collections:
            batch.highest = max(batch.highest, present)
        if poison.concern.key is None:
            rise = dict.fromkeys(poison.concern.collections, present)
            batch.floors |= rise
            batch.lost |= rise
            return
        for collection in poison.concern.collections:
            watched, key = self._watched[collection], poison.concern.key
            if watched.derived:
                _tell(batch, collection, poison.partition, key, Said("update", present, None, None))
            if key.startswith(watched.types):
                _note(batch.newest[collection], key, present)

    def lost(self, offsets: Mapping[int, int]) -> Batch:
        """Records are gone that nobody read: all that is cached is void, and reading goes on at `offsets`."""
        if self._apart:
            return _of_parts({at: Batch(forget=set(self._watched), offsets={at: end}) for at, end in offsets.items()})
        return Batch(forget=set(self._watched), offsets=dict(offsets))

    def _fold_partition(self, partition: int, records: Sequence[Record], latest: Version, batch: Batch) -> None:
        """Plain changes are told here by the checks that `events.decode` makes; whatever fails one goes there."""
        loads, database, watched_of = orjson.loads, self._database, self._watched.get
        oldest, changes, newest, latest_text = batch.oldest_wall_ms, 0, batch.newest, to_hex(latest)
        told: dict[str, dict[str, list[Said]]] = {}
        for record in records:
            try:
                fields = loads(record.value)  # type: ignore[arg-type]
                collection, key, version, wall_ms = fields["coll"], fields["key"], fields["ver"], fields["wall"]
                watched, touched = watched_of(collection), fields["fields"]
                plain = (
                    watched is not None
                    and fields["kind"] == "change"
                    and fields["f"] == FORMAT
                    and fields["db"] == database
                    and fields["op"] in OPERATIONS
                    and type(wall_ms) is int
                    and len(version) == 16
                    and not version.strip(HEX_DIGITS)
                    and version <= latest_text
                    and key.startswith(watched.types)
                )
                if plain and touched is not None and watched is not None:
                    "".join(touched)  # refuses what is no text
                    served = watched.served
                    plain = type(touched) is list and (served is None or not served.isdisjoint(touched))
                if (named := fields.get("groups")) is not None:
                    "".join(named.values())  # refuses what is no facts by path
            except (ValueError, TypeError, KeyError, AttributeError):
                plain = False
            if not plain:
                self._fold_unusual(partition, record, latest, batch)
                continue
            changes += 1
            if oldest is None or wall_ms < oldest:
                oldest = wall_ms
            versions = newest[collection]
            if versions.get(key, "") < version:
                versions[key] = version
            if watched is not None and watched.derived:
                said = Said(fields["op"], int(version, 16), touched, named)
                documents = told.get(collection)
                if documents is None:
                    documents = told[collection] = _told(batch, collection, partition)
                records_of = documents.get(key)
                if records_of is None:
                    documents[key] = [said]
                else:
                    records_of.append(said)
        batch.changes += changes
        # What the other way has met may be older still.
        batch.oldest_wall_ms = _older(oldest, batch.oldest_wall_ms)

    def _fold_unusual(self, partition: int, record: Record, latest: Version, batch: Batch) -> None:
        event = read(partition, record, self._database, self._watched, latest)
        match event:
            case Poison():
                batch.poison.append(event)
            case Change():
                self._fold_change(partition, event, batch)
            case Touch():
                self._fold_touch(partition, event, batch)
            case Rebuilt():
                batch.rebuilt.append((partition, event))
            case Floor():
                self._fold_floor(event, batch)
            case Mark():
                self._fold_mark(partition, record, event, batch)

    def _fold_touch(self, partition: int, touch: Touch, batch: Batch) -> None:
        watched = self._watched.get(touch.collection)
        if watched is None or not (watched.derived or touch.entries):
            batch.skip("collection")
            return
        batch.touches += 1
        if watched.derived:
            said = Said("touch", touch.version, (), None)
            _tell(batch, touch.collection, partition, touch.key, said)
        if touch.entries and touch.key.startswith(watched.types):
            _note(batch.newest[touch.collection], touch.key, touch.version)

    def _fold_change(self, partition: int, change: Change, batch: Batch) -> None:
        watched = self._watched.get(change.collection)
        if watched is None:
            batch.skip("collection")
            return
        if watched.derived:
            said = Said(change.operation, change.version, change.fields, change.named)
            _tell(batch, change.collection, partition, change.key, said)
            batch.highest = max(batch.highest, change.version)
        if not change.key.startswith(watched.types):
            batch.skip("key_type")
        elif not touches(change.fields, watched.served):
            batch.skip("fields")
        else:
            batch.changes += 1
            batch.oldest_wall_ms = _older(batch.oldest_wall_ms, change.wall_ms)
            _note(batch.newest[change.collection], change.key, change.version)

    def _fold_floor(self, floor: Floor, batch: Batch) -> None:
        if floor.collection not in self._watched:
            batch.skip("collection")
            return
        batch.floor_records += 1
        batch.floors[floor.collection] = max(floor.version, batch.floors.get(floor.collection, 0))
        if floor.lost:
            batch.lost[floor.collection] = max(floor.version, batch.lost.get(floor.collection, 0))

    def _fold_mark(self, partition: int, record: Record, mark: Mark, batch: Batch) -> None:
        if mark.term > self._office:
            batch.doubtful.append(Doubtful(partition, record, mark))
        else:
            self._take_mark(partition, mark, batch)

    def settle_marks(self, batch: Batch, office: int | None, *, condemns: bool) -> None:
        """Take or leave the marks that are doubtful. `office`: the highest term that was ever held; `None`: not
        known, nobody is believed; 0: nobody has held one, so nobody can be judged. `condemns`: whether that is known
        as of now."""
        doubtful, batch.doubtful = batch.doubtful, []
        if office:
            self._office = office
            self._terms = {partition: min(term, office) for partition, term in self._terms.items()}
        for partition, record, mark in doubtful:
            if office is not None and (not office or mark.term <= office):
                self._take_mark(partition, mark, batch)
            elif office and condemns:
                detail = f"nobody has held term {mark.term} yet, the last one is {office}"
                batch.poison.append(Poison(partition, record, "term", detail, NOTHING))
            else:
                batch.skip("term_unknown")

    def _take_mark(self, partition: int, mark: Mark, batch: Batch) -> None:
        if mark.term < self._terms.get(partition, mark.term):
            batch.skip("term")
            return
        batch.mark_records += 1
        self._terms[partition] = mark.term
        batch.marks[partition] = mark

    def _spell_out(self, batch: Batch) -> None:
        """Name the entries of every resource, each once."""
        batch.keys, batch.versions_and_refresh, batch.spans = [], [], []
        for collection, versions in batch.newest.items():
            if versions:
                batch.highest = max(batch.highest, int(max(versions.values()), 16))
                self._spell_out_collection(self._watched[collection], versions, batch)
        batch.highest = max(batch.highest, *batch.floors.values(), 0)

    def _spell_out_collection(self, watched: WatchedCollection, versions: Mapping[str, str], batch: Batch) -> None:
        for resource in watched.resources:
            if len(watched.types) > 1:
                prefix = type_prefix(resource.key_type)
                mine = {key: version for key, version in versions.items() if key.startswith(prefix)}
            else:
                mine = dict(versions)
            entry, start = self._names.entry_prefix(resource.name), len(batch.keys)
            batch.keys += [entry + key.encode() for key in mine]
            arguments = [REFRESH[resource.on_change]] * (2 * len(mine))
            arguments[::2] = mine.values()
            if resource.on_change == "auto" and self._favourites.keys:
                favourites = self._favourites.keys
                arguments[1::2] = ["r" if key in favourites else "t" for key in batch.keys[start:]]
            batch.versions_and_refresh += arguments
            batch.spans.append(Span(resource, start, len(batch.keys)))


def _of_parts(parts: dict[int, Batch]) -> Batch:
    whole = Batch(parts=parts)
    for part in parts.values():
        whole.begins |= part.begins
        whole.offsets |= part.offsets
    return whole


def _told(batch: Batch, collection: str, partition: int) -> dict[str, list[Said]]:
    return batch.told.setdefault((collection, partition), {})


def _tell(batch: Batch, collection: str, partition: int, key: str, said: Said) -> None:
    _told(batch, collection, partition).setdefault(key, []).append(said)


def _note(versions: dict[str, str], key: str, version: Version) -> None:
    text = to_hex(version)
    if versions.get(key, "") < text:
        versions[key] = text


def _older(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one, other)
