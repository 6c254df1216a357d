"""Poison: records that can never be applied, and what they may have spoken of."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from neverstale.errors import DeadLetter, Unreadable
from neverstale.kafka import events
from neverstale.kafka.events import Change, Event, Floor, Mark, Rebuilt, Touch
from neverstale.keys import any_value_of, canonical
from neverstale.versions import LATEST, Version, to_hex


class Record(Protocol):
    """What is used of aiokafka's `ConsumerRecord`."""

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int:
        """Milliseconds since 1970."""

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


@dataclass(frozen=True, slots=True)
class Concern:
    """What a record may speak of."""

    collections: frozenset[str]
    key: str | None = None
    """The one document, in the one collection; `None`: any."""


NOTHING: Final = Concern(frozenset())


@dataclass(frozen=True, slots=True)
class Poison:
    """A record that cannot be applied, and why."""

    partition: int
    record: Record
    reason: Unreadable
    detail: str
    concern: Concern
    version: Version | None = None
    """What it says, if that is later than was thought possible: should the present turn out to be later still, the
    record was sound."""


def read(
    partition: int, record: Record, database: str, collections: Collection[str], latest: Version
) -> Event | Poison:
    """What a record says, unless it cannot be read, is of another database, or has a version beyond `latest`."""
    try:
        event = events.decode(record.value)
    except DeadLetter as error:
        concern = concern_of(record.key, database, collections)
        return Poison(partition, record, error.reason, error.detail, concern)
    if isinstance(event, Change | Touch | Floor):
        if event.database != database:
            # Two watchers on one topic: nothing of ours is concerned, but somebody should know.
            return Poison(partition, record, "namespace", f"of database {event.database}, not {database}", NOTHING)
        if event.collection not in collections:
            return event
    if isinstance(event, Mark):
        return _judged(partition, record, event, latest)
    if isinstance(event, Rebuilt) or event.version <= latest:
        return event
    detail = f"version {to_hex(event.version)} is later than MongoDB's clock"
    return Poison(partition, record, "version", detail, _concern(event), event.version)


def _judged(partition: int, record: Record, mark: Mark, latest: Version) -> Mark | Poison:
    """A term is a time, too, or a little more than one that was (`neverstale.streams.lease`)."""
    if max(mark.wall_ms, mark.term) // 1000 <= latest >> 32 and mark.version <= latest:
        return mark
    said = min(max(mark.version, max(mark.wall_ms, mark.term) // 1000 << 32), LATEST)
    detail = (
        f"version {to_hex(mark.version)}, wall time {mark.wall_ms} or term {mark.term} is later than MongoDB's clock"
    )
    return Poison(partition, record, "version", detail, NOTHING, said)


def _concern(event: Event) -> Concern:
    match event:
        case Change() | Touch():
            return Concern(frozenset((event.collection,)), _key(event.key.encode()))
        case Floor():
            return Concern(frozenset((event.collection,)))
    return NOTHING


def concern_of(record_key: bytes | None, database: str, collections: Collection[str]) -> Concern:
    """What an unreadable record may speak of; only its key can tell."""
    namespace, known = f"{database}.".encode(), frozenset(collections)
    if record_key is None or not record_key.startswith(namespace) or b"|" not in record_key:
        return Concern(known)
    # Names of collections may have bars in them, so there may be several ways to read it.
    named = {name for name in known if record_key.startswith(namespace + name.encode() + b"|")}
    if len(named) != 1:
        return Concern(frozenset(named))
    (name,) = named
    return Concern(frozenset(named), _key(record_key[len(namespace) + len(name.encode()) + 1 :]))


def _key(spelled: bytes) -> str | None:
    try:
        key = spelled.decode()
        return key if canonical(any_value_of(key)) == key else None
    except Exception:  # whatever decoders say of bytes that are no key
        return None
