"""Generations: derived data is built again beside the old, and taken into use when every partition has been walked.

A resource's generations stand in one register: an epoch and their descriptions. The epoch is a digest of the
descriptions. Each change of the register is a compare-and-set, and no contribution is applied under another epoch
than it was planned for.

    claim ──► claimed ──► building ──► complete ──► gone when its successor is complete, or when it is void

* **claimed**: its empty hashes are there and consumers know of it: they raise its tags and its partition
  registers, but create no contribution. Only now is the cluster asked for the time, the generation's *birth*.
* **building**: contributions are created if they were read at or after the birth and the partition's register.
  The walk begins after this was written, reads at or after a time asked for even later, and publishes a `touch` for
  each document; whatever happened before is in what it reads, whatever happens later is an event.
* **complete**: each partition has applied `rebuilt`, hence every touch before it. Counters and rankings serve.

Lists serve while building, too: their tags vouch from the birth on.

A generation is *void* when something of it was lost: a hash is missing, a `floor` of its collection is younger than
its birth (changes were lost), or Redis is another one. Void generations leave the
register; the next walk makes a new one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, Literal

import orjson
from pydantic import ValidationError

from neverstale.catalog.declarations import FORMAT, Declarations, declared_as
from neverstale.derived.contributions import MAX_BUCKETS
from neverstale.derived.redis_names import EPOCH_BYTES
from neverstale.derived.shape import Shape
from neverstale.role.damage import MOST_PARTITIONS
from neverstale.versions import Version, from_hex, to_hex

Phase = Literal["claimed", "building", "complete"]
MOST_BYTES: Final = 1 << 20
MOST_AT_ONCE: Final = 8
"""One that serves and one that is built are all that we keep."""


class UnknownFormat(Exception):
    """The register was written by a release that we do not understand: everything in it is unknown to us."""


@dataclass(frozen=True, slots=True)
class Generation:
    id: str
    phase: Phase
    identity: str
    """The Redis that it was begun on."""
    buckets: int
    declared: str
    """`Declarations.text`."""
    birth: Version | None = None
    """`None` while claimed."""
    partitions: int = 0
    """Of the topic; 0 until the first `rebuilt`."""
    rebuilt: frozenset[int] = frozenset()
    """Partitions that have applied the end of its walk."""

    @property
    def shape(self) -> Shape:
        return shape_of(self.declared)

    @property
    def digests(self) -> dict[str, str]:
        return dict(self.shape.declared.digests())


@lru_cache(maxsize=64)
def shape_of(declared: str) -> Shape:
    """What a text of declarations makes of documents. `UnknownFormat` if it is not ours to read."""
    try:
        if orjson.loads(declared)["format"] != FORMAT:
            raise UnknownFormat(declared)
        return Shape(Declarations.model_validate_json(declared))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValidationError) as error:
        raise UnknownFormat(str(error)) from None


@dataclass(frozen=True, slots=True)
class Generations:
    """A resource's register. Transitions answer another one; `store` writes it if nobody was faster."""

    all: tuple[Generation, ...] = ()

    @property
    def epoch(self) -> str:
        return encode(self)[:EPOCH_BYTES].decode()

    @property
    def complete(self) -> Generation | None:
        return next((one for one in self.all if one.phase == "complete"), None)

    @property
    def next(self) -> Generation | None:
        return next((one for one in self.all if one.phase != "complete"), None)

    def of(self, name: str) -> Generation | None:
        return next((one for one in self.all if one.id == name), None)

    def claim(self, new: Generation) -> "Generations":
        """Begin a generation; one that was not finished gives way."""
        kept = (one for one in self.all if one.phase == "complete")
        return self._then((*kept, replace(new, phase="claimed", birth=None, partitions=0, rebuilt=frozenset())))

    def establish(self, name: str, birth: Version) -> "Generations":
        """The cluster's time, asked after the claim was written. The first answer stays."""
        return self._change(name, lambda one: replace(one, phase="building", birth=birth), phase="claimed")

    def rebuilt(self, name: str, partition: int, partitions: int) -> "Generations":
        """A partition has applied everything up to the end of the walk. After the last one the generation serves
        and its predecessor is gone."""

        def applied(one: Generation) -> Generation:
            # Another number of partitions comes with a floor, which makes the generation void; until then count
            # again.
            done = one.rebuilt if one.partitions in (0, partitions) else frozenset()
            done |= {partition}
            phase: Phase = "complete" if done >= frozenset(range(partitions)) else "building"
            return replace(one, phase=phase, partitions=partitions, rebuilt=done)

        then = self._change(name, applied, phase="building")
        changed = then.of(name)
        if changed is None or changed.phase != "complete":
            return then
        return replace(then, all=tuple(one for one in then.all if one.phase != "complete" or one.id == name))

    def void(self, name: str) -> "Generations":
        return self._without(lambda one: one.id == name)

    def floor(self, version: Version) -> "Generations":
        """Changes up to `version` may have been lost: only what was born at or after it knows them."""
        return self._without(lambda one: one.birth is None or one.birth < version)

    def on(self, identity: str) -> "Generations":
        """Only what was begun on this Redis: another one may have lost contributions."""
        return self._without(lambda one: one.identity != identity)

    def readable(self) -> "Generations":
        """Only what we know how to keep."""
        return self._without(lambda one: not _is_readable(one))

    def for_lists(self, name: str, digest: str, identity: str | None = None) -> Generation | None:
        """The generation whose tags vouch for the pages of a list as it is declared here."""
        known = [one for one in self.all if one.birth is not None]
        return _as_declared(known, declared_as("lists", name), digest, identity)

    def for_counts(self, declaration: str, digest: str, identity: str | None = None) -> Generation | None:
        """The complete generation of a counter or ranking (`counters.x`, `rankings.y`) as it is declared here."""
        return _as_declared([one for one in self.all if one.phase == "complete"], declaration, digest, identity)

    def dropped_by(self, then: "Generations") -> tuple[Generation, ...]:
        """What a transition leaves behind in Redis, to be unlinked."""
        kept = {one.id for one in then.all}
        return tuple(one for one in self.all if one.id not in kept)

    def _change(self, name: str, change: Callable[[Generation], Generation], phase: Phase) -> "Generations":
        if not any(one.id == name and one.phase == phase for one in self.all):
            return self
        return self._then(tuple(change(one) if one.id == name else one for one in self.all))

    def _without(self, gone: Callable[[Generation], bool]) -> "Generations":
        kept = tuple(one for one in self.all if not gone(one))
        return self if len(kept) == len(self.all) else self._then(kept)

    def _then(self, generations: tuple[Generation, ...]) -> "Generations":
        return Generations(generations)


def _as_declared(
    generations: Sequence[Generation], declaration: str, digest: str, identity: str | None
) -> Generation | None:
    for one in sorted(generations, key=lambda one: one.phase != "complete"):
        on_this = identity is None or one.identity == identity
        if on_this and _is_readable(one) and one.digests.get(declaration) == digest:
            return one
    return None


def _is_readable(generation: Generation) -> bool:
    try:
        shape_of(generation.declared)
    except UnknownFormat:
        return False
    return True


@lru_cache(maxsize=256)
def encode(generations: Generations) -> bytes:
    """The register's text."""
    text = orjson.dumps([_fields(one) for one in generations.all])
    return blake2b(text, digest_size=EPOCH_BYTES // 2).hexdigest().encode() + text


def decode(raw: bytes | None) -> Generations:
    """A register as it was read; a missing one knows no generation. `UnknownFormat` if it is not ours to read."""
    if raw is None:
        return Generations()
    if len(raw) > MOST_BYTES:
        raise UnknownFormat(f"{len(raw)} bytes are no generations")
    return _decoded(raw)


@lru_cache(maxsize=256)
def _decoded(raw: bytes) -> Generations:
    """It is read again and again, and seldom another one than before."""
    try:
        known = Generations(tuple(map(_generation, orjson.loads(raw[EPOCH_BYTES:]))))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise UnknownFormat(f"{type(error).__name__}: {error}") from None
    if len(known.all) > MOST_AT_ONCE or encode(known) != raw:
        # Its epoch is not that of its descriptions, or they say more: it could never be replaced.
        raise UnknownFormat("the epoch does not belong to the generations")
    return known


def _fields(one: Generation) -> dict[str, Any]:
    return {
        "id": one.id,
        "phase": one.phase,
        "identity": one.identity,
        "buckets": one.buckets,
        "declared": one.declared,
        "birth": to_hex(one.birth) if one.birth is not None else None,
        "partitions": one.partitions,
        "rebuilt": sorted(one.rebuilt),
    }


def _generation(fields: dict[str, Any]) -> Generation:
    phase = fields["phase"]
    if phase not in ("claimed", "building", "complete"):
        raise ValueError(f"unknown phase {phase!r}")
    partitions = _whole(fields["partitions"], MOST_PARTITIONS)
    return Generation(
        id=_text(fields["id"]),
        phase=phase,
        identity=_text(fields["identity"]),
        buckets=_whole(fields["buckets"], MAX_BUCKETS),
        declared=_text(fields["declared"]),
        birth=from_hex(fields["birth"]) if fields["birth"] is not None else None,
        partitions=partitions,
        rebuilt=frozenset(_whole(partition, partitions) for partition in fields["rebuilt"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("expected a text")
    return value


def _whole(value: Any, most: int) -> int:
    """Consumers make so many names, or look so often."""
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"expected a whole number of at most {most}")
    return value
