"""Deriving: what a batch changes in lists, counters and rankings.

For each resource and partition: raise the partition's register and fetch the contributions; read the documents in one
snapshot; plan, and apply the plan in one call (`neverstale.derived`). Whoever is refused begins again. It comes after
the entries of the batch were invalidated, and before its watermarks are written and its offsets committed.

While MongoDB is away the batch waits: what it would read is not there, and no further changes are either.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from neverstale.catalog import Resource
from neverstale.consumers.records.batch import Batch
from neverstale.derived.generations import Generation, Generations, UnknownFormat
from neverstale.derived.plan import Plan, Said
from neverstale.derived.queries import projection
from neverstale.derived.shape import Shape
from neverstale.derived.store import Behind, Changed, DerivedStore, Lost, OtherGenerations
from neverstale.errors import Outage, Refused, Retry
from neverstale.keys import any_value_of, canonical
from neverstale.mongodb.loader import Loader
from neverstale.redis.announcements import EVERY, group_name
from neverstale.role import telemetry
from neverstale.role.log_repetitions import Seldom
from neverstale.versions import Version

log = telemetry.logger(__name__)

DOCUMENTS_A_CALL: Final = 500
"""A call on more would hold up everybody else on this Redis."""

GROUPS_ANNOUNCED: Final = 2_000
"""More are announced as all of them."""

Documents = Mapping[str, Sequence[Said]]


@dataclass(frozen=True, slots=True)
class DerivedPart:
    """Some documents of one partition."""

    partition: int
    documents: Documents

    @property
    def newest(self) -> Version:
        return max([said.version for records in self.documents.values() for said in records])


class ResourceDeriver:
    """Derives for one resource. Knows the generations as it last saw them; being wrong about them only costs a
    round."""

    def __init__(self, resource: Resource, store: DerivedStore, loader: Loader) -> None:
        self.resource = resource
        self.store = store
        self._loader = loader
        self._known = Generations()
        self._unsummable = Seldom()
        self._changed: dict[str, set[bytes]] = {}
        """What is declared -> the slots of its groups that were changed and not announced yet; an empty slot, or
        `EVERY` as a name: all. They outlive an attempt that failed: the next one may not know them any more."""
        self._changed_at: Version = 0

    async def apply(self, batch: Batch, identity: str) -> None:
        """Everything of the batch that concerns this resource; may be called again with the same after any error."""
        await self._void(batch, identity)
        parts = [
            part
            for (collection, partition), documents in batch.told.items()
            if collection == self.resource.collection
            for part in _parts(partition, documents)
        ]
        # Side by side: no two parts have a document in common, so while one waits for a server another goes on.
        # All have ended before anything is tried again.
        for outcome in await asyncio.gather(*map(self._apply_part, parts), return_exceptions=True):
            if outcome is not None:
                raise outcome
        for partition, rebuilt in batch.rebuilt:
            if rebuilt.resource == self.resource.name:
                await self._rebuilt(partition, rebuilt.generation, rebuilt.partitions)
        await self._announce()

    async def _void(self, batch: Batch, identity: str) -> None:
        """Give up what may lack changes."""
        collection = self.resource.collection
        if collection in batch.forget:
            await self.store.change(lambda known: Generations())
        elif (floor := batch.lost.get(collection)) is not None:
            await self.store.change(lambda known: known.floor(floor))
        # Who skips changes because no generation that he knows derives from them must know of all that there are.
        self._learn(await self.store.generations())
        if self._known.on(identity) != self._known:
            self._learn(await self.store.change(lambda known: known.on(identity)))

    def _learn(self, known: Generations) -> None:
        """Whatever a page of another generation was vouched for by, it is not raised any more."""
        if {one.id for one in known.all} != {one.id for one in self._known.all}:
            self._changed[EVERY] = {b""}
        self._known = known

    async def forget(self) -> None:
        """Give up everything that is derived. Who watches some of it hears of that before the next marks."""
        await self.store.forget()
        self._known = Generations()
        self._changed[EVERY] = {b""}
        await self._announce()

    def _note(self, plans: Sequence[Plan], newest: Version) -> None:
        self._changed_at = max(self._changed_at, newest)
        for plan in plans:
            for declared, slot in plan.groups():
                self._changed.setdefault(declared, set()).add(slot)

    async def _announce(self) -> None:
        if self._changed:
            await self.store.announce(_announced(self.resource.name, self._changed), self._changed_at)
            self._changed.clear()

    async def _apply_part(self, part: DerivedPart) -> None:
        at_least = 0
        while (known := self._known).all:
            concerned = _concerned(part, known)
            if not concerned.documents:
                telemetry.DERIVED.labels("no_concern").inc(len(part.documents))
                return
            try:
                await self._contribute(known, concerned, at_least)
            except OtherGenerations:
                self._learn(await self.store.generations())
            except Changed:
                telemetry.DERIVED_AGAIN.labels("changed").inc()
            except Behind as behind:
                at_least = behind.version
                telemetry.DERIVED_AGAIN.labels("behind").inc()
            except Lost as lost:
                await self._lost(lost)
            except Refused as refusal:
                if refusal.lasts or len(concerned.documents) == 1:
                    raise
                # It belongs to one document: the others shall not share it.
                for half in _halves(concerned):
                    await self._apply_part(half)
                return
            else:
                telemetry.DERIVED.labels("applied").inc(len(concerned.documents))
                return

    async def _contribute(self, known: Generations, part: DerivedPart, at_least: Version) -> None:
        keys = list(part.documents)
        begun = await self.store.begin(known, part.partition, part.newest, keys)
        at_least = max(at_least, part.newest, *(one.at_least for one in begun))
        needed = _projection(known.all)
        values = [value for key in keys if (value := _value_of(key)) is not None]
        read_at, found = await self._loader.read(self.resource.collection, values, needed, at_least)
        documents = {canonical(document["_id"]): document for document in found}
        plans = []
        said = [records if len(records) == 1 else _in_order(records) for records in part.documents.values()]
        for one in begun:
            plan = Plan(self.store.names, one.generation, read_at)
            facts = dict(zip(documents, one.generation.shape.facts(list(documents.values())), strict=True))
            plan.add(keys, said, one.contributions, [facts.get(key) for key in keys])
            plans.append(plan)
        try:
            await self.store.contribute(known, part.partition, plans)
        finally:
            self._note(plans, part.newest)  # nobody knows whether a call that failed was applied
        for plan in plans:
            for counter, more in plan.unsummable.items():
                self._warn_of_sum(counter, more)

    def _warn_of_sum(self, counter: str, documents: int) -> None:
        telemetry.DERIVED_UNSUMMABLE.labels(self.resource.name, counter).inc(documents)
        if times := self._unsummable.due(documents):
            log.warning(
                "sum_unknown",
                resource=self.resource.name,
                counter=counter,
                documents=times,
                reason="a number has more decimal places than the sum's scale, or does not fit",
                remedy="declare a scale that holds it, or correct the documents",
            )

    async def _lost(self, lost: Lost) -> None:
        log.warning("generation_void", resource=self.resource.name, generation=lost.generation.id, reason=str(lost))
        self._learn(await self.store.change(lambda known: known.void(lost.generation.id)))

    async def _rebuilt(self, partition: int, generation: str, partitions: int) -> None:
        before = self._known
        self._learn(await self.store.change(lambda known: known.rebuilt(generation, partition, partitions)))
        if self._known.complete is not None and before.complete != self._known.complete:
            log.info("generation_complete", resource=self.resource.name, generation=generation)


class NotYet(Retry):
    """What is derived has been given up, and the batch is to be derived again behind that."""


class Deriver:
    """Derives for all resources of a catalog that declare something derived."""

    def __init__(self, resources: Sequence[ResourceDeriver]) -> None:
        self._resources = resources

    async def apply(self, batch: Batch, identity: str) -> None:
        """Bring all up to a batch that the Redis of this identity took. Raises `Outage` or `NotYet`; the same batch
        may be applied again after any error."""
        if not all([await self._apply_one(one, batch, identity) for one in self._resources]):
            raise NotYet

    async def _apply_one(self, one: ResourceDeriver, batch: Batch, identity: str) -> bool:
        """False: not yet. What we cannot keep up to date (another release's register, a version that MongoDB has not
        reached, bytes that cannot be decoded) nobody may rely on from now on. It keeps no other resource from being
        derived, and no entry from being corrected. What MongoDB refuses is void, and is begun again after pauses that
        grow (`neverstale.consumers.derived.rebuild`)."""
        try:
            await one.apply(batch, identity)
            return True
        except Outage:
            raise
        except Refused as refusal:
            log.error("generations_void", resource=one.resource.name, reason=str(refusal))
            await one.forget()
            return True
        except UnknownFormat as error:
            log.warning("generations_void", resource=one.resource.name, reason=str(error))
            await one.forget()
            return False
        except Exception as error:
            log.error("generations_void", resource=one.resource.name, reason=repr(error), exc_info=error)
            await one.forget()
            return False


def _announced(resource: str, changed: Mapping[str, Collection[bytes]]) -> list[str]:
    """Names, not too many together: then all groups of what is declared stand for some of them."""
    if EVERY in changed:
        return [group_name(resource)]
    few = max(GROUPS_ANNOUNCED // len(changed), 1)
    names = []
    for declared, slots in sorted(changed.items()):
        if len(slots) > few or b"" in slots:
            names.append(group_name(resource, declared))
        else:
            names += [group_name(resource, declared, slot) for slot in sorted(slots)]
    return names


def _parts(partition: int, documents: Documents) -> list[DerivedPart]:
    keys = list(documents)
    return [
        DerivedPart(partition, {key: documents[key] for key in keys[start : start + DOCUMENTS_A_CALL]})
        for start in range(0, len(keys), DOCUMENTS_A_CALL)
    ]


def _value_of(key: str) -> object:
    """The `_id` to look for; `None`: the key spells none, so there is no such document."""
    try:
        return any_value_of(key)
    except ValueError:
        return None


def _halves(part: DerivedPart) -> list[DerivedPart]:
    keys = list(part.documents)
    middle = len(keys) // 2
    return [
        DerivedPart(part.partition, {key: part.documents[key] for key in some})
        for some in (keys[:middle], keys[middle:])
    ]


def _concerned(part: DerivedPart, known: Generations) -> DerivedPart:
    """Documents of which something changed that some generation derives from."""
    shapes = [one.shape for one in known.all]
    documents = {key: records for key, records in part.documents.items() if _concern(records, shapes)}
    return DerivedPart(part.partition, documents)


def _concern(records: Sequence[Said], shapes: Sequence[Shape]) -> bool:
    for said in records:
        if said.operation == "touch":
            return True
        for shape in shapes:
            if shape.concerns(said.fields):
                return True
    return False


def _in_order(records: Sequence[Said]) -> Sequence[Said]:
    return sorted(records, key=lambda said: said.version)


def _projection(generations: Sequence[Generation]) -> dict[str, int]:
    """What the facts of all generations need."""
    return projection({path for one in generations for path in one.shape.projection})
