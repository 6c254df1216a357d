"""Plans: what a batch of changes does to one generation, as the arguments of one call of `contribute.lua`.

The batch's documents were read in one snapshot at version s. For each of them, its stored contribution is replaced
if it is older than s, and the differences go to counts, sums and scores. Redelivery, reordering and coalescing
cannot change what results, because it only depends on the newest state that was read.

**Tags** of lists need more, because a page may hold a state that nobody reads any more:

* the groups of the *stored* contribution are raised, if an event touches what pages of the list use or the
  document has left them;
* every group that an event *names* is raised: a document that moves A → B → C within one batch is only ever read in
  C, yet a page of B filled between the moves holds it; who comes to hold the list's constants is as if its event
  named the groups that it is in;
* both to `max(s, version of the stored contribution)`: a read that lags behind an earlier one vouches for less;
* the list's floor is raised where a group is not known: nothing is stored and the first event is no insert of this
  generation's time; the event cannot name the value; it names only some of the list's fields and the stored
  contribution, which would give the others, is already newer than the event.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import ne
from typing import Any, Final, NamedTuple

from neverstale.derived import groups
from neverstale.derived.contributions import Contribution, facts_of_all, pack, packed_all, stamp
from neverstale.derived.facts import Facts
from neverstale.derived.figures import FigureChange, Move, sorted_out
from neverstale.derived.generations import Generation
from neverstale.derived.groups import texts_of
from neverstale.derived.redis_names import LIST_FLOOR, DerivedNames, slot_of
from neverstale.derived.tagged import NOTHING, Effect, Effects, Tagged
from neverstale.versions import Version, to_hex

_NAMELESS: Final = frozenset(("delete", "touch"))


class Said(NamedTuple):
    """What a record says about a document: a change of it, or that a walk passed it (`touch`)."""

    operation: str
    version: Version
    fields: Sequence[str] | None
    """Paths that it touched; `None`: all."""
    named: Mapping[str, str] | None
    """New facts (`groups.fact`) of the paths that make groups, as far as the event could name them."""


def replaces(stored: Version, read_at: Version) -> bool:
    """Whether a state read at `read_at` takes the place of a contribution."""
    return stored < read_at


def tag_version(read_at: Version, stored: Version) -> Version:
    """What the tags of a changed document are raised to."""
    return max(read_at, stored)


def completes(stored: Version, event: Version) -> bool:
    """Whether the stored contribution tells the values that an event of one document does not name: what it was
    before the event, not after later ones."""
    return stored < event


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a script."""

    keys: list[bytes]
    arguments: list[Any]


def begin(names: DerivedNames, generation: Generation, partition: int, version: Version, keys: Sequence[str]) -> Call:
    """`begin.lua` for the documents of a batch, whose newest change is at `version`."""
    own = names.of(generation.id)
    raws = [key.encode() for key in keys]
    buckets = own.buckets(raws, generation.buckets)
    places = {bucket: b"%d" % place for place, bucket in enumerate(dict.fromkeys(buckets), 2)}
    arguments = [partition, to_hex(version), *_flat(map(places.__getitem__, buckets), raws)]
    return Call([own.partitions, *places], arguments)


def _flat(*columns: Iterable[Any]) -> Iterator[Any]:
    """What stands in columns, row by row."""
    return chain.from_iterable(zip(*columns, strict=True))


_Usual = tuple[str, Sequence[Said], bytes, Facts, Effects]
"""Of one document: key, records, packed contribution, facts in the snapshot, effects of its one record."""


class Plan:
    """Collects the documents of a batch, then makes the call."""

    def __init__(self, names: DerivedNames, generation: Generation, read_at: Version) -> None:
        self.generation = generation
        self._register = names.generations
        self._names = own = names.of(generation.id)
        self._shape = generation.shape
        self._read_at = read_at
        self._stamp = stamp(read_at)
        self._documents: list[tuple[bytes, bytes, bytes, bytes]] = []
        self.tags: dict[tuple[bytes, bytes], Version] = {}
        """Hash and field -> what it is raised to."""
        self._tag_keys = [one.hash(own) for one in self._shape.tagged]
        self._moves: list[Move] = []
        self._counted: dict[str, Collection[str | None]] = {}
        """Groups of figures; `None`: all of them."""
        self.unsummable: dict[str, int] = {}
        """Figure -> how many documents more have a number that it cannot hold exactly. Known after `call`."""

    def add(
        self,
        keys: Sequence[str],
        said: Sequence[Sequence[Said]],
        held: Sequence[bytes],
        observed: Sequence[Facts | None],
    ) -> None:
        """Documents, in columns: what the records of each say, oldest first; its packed contribution (`b""`: none);
        its facts in the snapshot (`None`: absent)."""
        usual: list[_Usual] = []
        newer, fields, effects = self._stamp, None, None
        for key, records, packed, found in zip(keys, said, held, observed, strict=True):
            first = records[0]
            if first.fields is not fields:
                # Most changes of a batch touch the same paths: those are looked up once.
                if first.fields != fields or effects is None:
                    effects = self._nameless(first.fields)
                fields = first.fields
            # The version comes first in a contribution: so it is what is compared.
            if (
                effects is not None
                and packed
                and found is not None
                and packed < newer
                and first.operation == "update"
                and len(records) == 1
            ):
                usual.append((key, records, packed, found, effects))
            else:
                self._add(key, records, packed, found)
        if usual:
            self._add_usual(usual)

    def _nameless(self, fields: Sequence[str] | None) -> Effects | None:
        """What an update of these paths means, if that names no group."""
        effects = self._shape.effects(fields)
        return None if effects.names else effects

    def _add_usual(self, documents: Sequence[_Usual]) -> None:
        """What `_add` does, for documents of which a newer state was read after one update that names no group: tags
        depend on nothing but what the update touches, the facts that a list sees, and whether any changed."""
        keys, said, held, observed, effects = zip(*documents, strict=True)
        raws = [key.encode() for key in keys]
        buckets = self._names.buckets(raws, self.generation.buckets)
        packed = packed_all(self._stamp, observed)
        self._documents += zip(buckets, raws, held, packed, strict=True)
        former = facts_of_all(held)
        for place, one in enumerate(self._shape.tagged):
            touches = [effect.tagged[place].touches for effect in effects]
            alike = zip(
                touches, map(one.seen, former), map(one.seen, observed), map(ne, former, observed), strict=True
            )
            for at in dict(zip(alike, range(len(keys)), strict=True)).values():
                self._raise(one, place, said[at], Contribution.unpack(held[at]), former[at], observed[at])
        self._moves += [move for move in zip(keys, former, observed, strict=True) if move[1] != move[2]]

    def _add(self, key: str, said: Sequence[Said], held: bytes, observed: Facts | None) -> None:
        """One document."""
        stored = Contribution.unpack(held) if held else None
        found = observed
        packed = held
        if stored is not None:
            if replaces(stored.version, self._read_at):
                packed = pack(self._read_at, observed) if observed is not None else b""
            else:
                found = stored.facts
        elif self.generation.birth is None:
            found = None
        elif observed is not None:
            packed = pack(self._read_at, observed)
        if held or packed:
            raw = key.encode()
            (bucket,) = self._names.buckets((raw,), self.generation.buckets)
            self._documents.append((bucket, raw, held, packed))
        before = stored.facts if stored is not None else None
        for place, one in enumerate(self._shape.tagged):
            self._raise(one, place, said, stored, before, found)
        if before != found:
            self.differ(key, before, found)

    def differ(self, key: str, before: Facts | None, after: Facts | None) -> None:
        """What figures lose with the facts that a document had, and gain with those that it has."""
        self._moves.append((key, before, after))

    # Tags

    def _raise(
        self,
        one: Tagged,
        place: int,
        said: Sequence[Said],
        stored: Contribution | None,
        before: Facts | None,
        after: Facts | None,
    ) -> None:
        effect = self._effect_of(said[0], place)
        touched, names = effect.touches, effect.names
        for record in said[1:]:
            effect = self._effect_of(record, place)
            touched, names = touched or effect.touches, names or effect.names
        left = self._left(one, before, after, touched)
        if left == () and not touched and (stored is not None or after is None):
            return
        known = stored is not None or self._inserted(said[0])
        named = self._named(one, place, said, stored, before) if touched and names and known else ()
        version = tag_version(self._read_at, stored.version if stored is not None else 0)
        tags = self._tag_keys[place]
        if not known or left is None or named is None:
            self._lift(tags, LIST_FLOOR, version)
            return
        for group in left:
            self._lift(tags, slot_of(group), version)
        for group in named:
            self._lift(tags, slot_of(group), version)

    def _effect_of(self, record: Said, place: int) -> Effect:
        return NOTHING if record.operation == "touch" else self._shape.effects(record.fields).tagged[place]

    def _left(self, one: Tagged, before: Facts | None, after: Facts | None, touched: bool) -> tuple[str, ...] | None:
        """The stored groups, if pages of theirs may show something else by now; `None`: not known."""
        if before is None:
            return ()
        old = one.groups(before)
        if old is None:
            return None if touched or before != after else ()
        return old if touched or after is None or one.groups(after) != old else ()

    def _inserted(self, first: Said) -> bool:
        """Whether nothing can have been in a page of this generation before the first record."""
        birth = self.generation.birth
        return first.operation == "insert" and birth is not None and first.version > birth

    def _named(
        self, one: Tagged, place: int, said: Sequence[Said], stored: Contribution | None, before: Facts | None
    ) -> tuple[str, ...] | None:
        """Every group that the records name, given what is stored; `None` where they cannot."""
        named: dict[int, tuple[str, ...]] = {}
        enters = False
        for record in said:
            if record.operation in _NAMELESS:
                continue
            effect = self._effect_of(record, place)
            met, enters = effect.named, enters or effect.enters
            needs_stored = bool(met) or effect.enters
            if (
                needs_stored
                and len(met) < len(one.by_paths)
                and stored
                and not completes(stored.version, record.version)
            ):
                return None
            for i in met:
                texts = texts_of((record.named or {}).get(one.by_paths[i], groups.BEYOND))
                if texts is None:
                    return None
                named[i] = named.get(i, ()) + texts
        if not (named or enters):
            # A list of one group for all documents: whoever was inserted or deleted was in it.
            return () if one.by_paths else ("",)
        crossing: list[tuple[str, ...]] = []
        for i in range(len(one.by_paths)):
            held = texts_of(one.by(before)[i]) if before is not None else ()
            if held is None:
                return None
            crossing.append(tuple(dict.fromkeys(held + named.get(i, ()))))
        return groups.crossed(crossing)

    def _lift(self, tags: bytes, field: bytes, version: Version) -> None:
        at = tags, field
        if self.tags.get(at, 0) < version:
            self.tags[at] = version

    def groups(self) -> Iterator[tuple[str, bytes]]:
        """What it changes, as it is announced: the name of what is declared, and the slot of a group of it; without
        one, all groups. Of figures that is known after `call`."""
        names = dict(zip(self._tag_keys, (one.name for one in self._shape.tagged), strict=True))
        for key, slot in self.tags:
            yield names[key], b"" if slot == LIST_FLOOR else slot
        for declared, some in self._counted.items():
            for group in some:
                yield declared, b"" if group is None else slot_of(group)

    # The call

    def call(self, epoch: str, partition: int) -> Call:
        """`contribute.lua` for all that was added."""
        changes = self._changes()
        differences = [*chain.from_iterable(change.counts for change in changes)]
        sets = [*chain.from_iterable(change.sets for change in changes)]
        # Those of one set side by side: the script makes one command of them.
        scores = [*chain.from_iterable(change.scores for change in changes)]
        buckets, raws, helds, packs = zip(*self._documents, strict=True) if self._documents else ((), (), (), ())
        unproven = dict.fromkeys([bucket for bucket, held in zip(buckets, helds, strict=True) if not held])
        unproven |= dict.fromkeys([key for key, _, _ in differences])
        unproven |= dict.fromkeys([sizes for _, sizes, _ in sets])
        unproven |= dict.fromkeys([key for key, _ in self.tags])
        # A bucket that holds the contribution that is expected is there.
        proven = [bucket for bucket in dict.fromkeys(buckets) if bucket not in unproven]
        keys = [self._register, self._names.partitions, *unproven, *proven, *(key for key, _, _ in sets)]
        place = {key: b"%d" % i for i, key in enumerate(keys, 1)}
        arguments: list[Any] = [
            epoch,
            partition,
            to_hex(self._read_at),
            2 + len(unproven),
            len(self._documents),
            len(differences),
            len(sets),
            sum(len(some) for _, some in scores),
            len(self.tags),
        ]
        arguments += _flat(map(place.__getitem__, buckets), raws, helds, packs)
        for key, field, amount in differences:
            arguments += (place[key], field, amount)
        for key, sizes, name in sets:
            arguments += (place[key], place[sizes], name)
        for key, some in scores:
            arguments += chain.from_iterable([(place[key], member, score) for member, score in some])
        for (key, slot), version in self.tags.items():
            arguments += (place[key], slot, to_hex(version))
        return Call(keys, arguments)

    def _changes(self) -> list[FigureChange]:
        moves, found = sorted_out(self._moves), []
        for figure in self._shape.figures:
            change = figure.change(self._names, moves)
            if change.groups:
                self._counted[f"{figure.kind}.{figure.name}"] = change.groups
            if change.unsummable:
                self.unsummable[figure.name] = change.unsummable
            found.append(change)
        return found
