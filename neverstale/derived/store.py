"""Derived data on Redis: each step one script, and what its answers mean.

    read register ─► begin (raise the partition, fetch contributions) ─► read MongoDB ─► contribute

Nothing here reads MongoDB or retries an outage; the caller does.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from neverstale.derived import generations
from neverstale.derived.contributions import Contribution
from neverstale.derived.generations import Generation, Generations
from neverstale.derived.kinds.kept import IsOurs, Kept
from neverstale.derived.plan import Call, Plan, begin
from neverstale.derived.redis_names import BEYOND, PRESENT, DerivedNames
from neverstale.redis.announcements import Announcer
from neverstale.redis.commands import Commands
from neverstale.role.damage import Damage
from neverstale.versions import Version, from_hex, is_hex, to_hex

_HASHES_A_PIPELINE: Final = 2_000

Valued: TypeAlias = tuple[bytes, IsOurs | None]
"""A hash, and what it may hold; `None`: versions."""


class OtherGenerations(Exception):
    """The register is not what was planned for: read it again, and begin again."""


class Lost(Exception):
    """Something of a generation is missing in Redis: it is void."""

    def __init__(self, generation: Generation, key: bytes) -> None:
        super().__init__(f"generation {generation.id} has lost {key!r}")
        self.generation = generation
        self.key = key


class Changed(Exception):
    """Another consumer replaced a contribution meanwhile: begin again."""


class Behind(Exception):
    """A document can only be created by a read at `version` or later: read again."""

    def __init__(self, version: Version) -> None:
        super().__init__(f"read at {version:016x} or later")
        self.version = version


@dataclass(frozen=True, slots=True)
class Begun:
    """What a generation knows of a batch's documents."""

    generation: Generation
    at_least: Version
    """The documents have to be read at this version or later: no owner of the partition has begun to apply more."""
    contributions: list[bytes]
    """Packed, one for each document, in order; `b""`: none."""


class DerivedStore:
    """One resource's derived data in one Redis. Raises `Outage("redis")` for everything that is not an answer."""

    def __init__(self, redis: Commands, resource: str, announcer: Announcer | None = None) -> None:
        self.names = DerivedNames(redis.names.prefix, resource)
        self._redis = redis
        self._announcer = announcer

    async def identity(self) -> str:
        """Which Redis holds it."""
        return await self._redis.identity()

    @property
    def damage(self) -> Damage:
        return self._redis.damage

    async def generations(self) -> Generations:
        (raw,) = await self._redis.send(("GET", self.names.generations))
        return generations.decode(raw)

    async def begin(self, known: Generations, partition: int, version: Version, keys: Sequence[str]) -> list[Begun]:
        """For each generation: raise the partition's register to `version`, the batch's newest change, and fetch
        the documents' contributions. Comes before MongoDB is read."""
        calls = [begin(self.names, one, partition, version, keys) for one in known.all]
        commands = [await self._redis.call("begin", call.keys, call.arguments) for call in calls]
        answers = await self._redis.send(*commands) if commands else []
        found = [begun(*args) for args in zip(known.all, calls, answers, strict=True)]
        return [self._as_far_as_true(one) for one in found]

    def _as_far_as_true(self, one: Begun) -> Begun:
        """A contribution of a version that cannot be true would never be replaced: MongoDB is to judge it."""
        newest = Contribution.version_of(max(one.contributions, default=b""))
        return replace(one, at_least=max(one.at_least, newest)) if newest > self._redis.damage.latest() else one

    async def contribute(self, known: Generations, partition: int, plans: Sequence[Plan]) -> None:
        """Apply a batch, one plan for each generation. A generation that is refused stays as it was; the others
        may have applied theirs, which a second time changes nothing."""
        calls = [plan.call(known.epoch, partition) for plan in plans]
        commands = [await self._redis.call("contribute", call.keys, call.arguments) for call in calls]
        answers = await self._redis.send(*commands) if commands else []
        for plan, call, answer in zip(plans, calls, answers, strict=True):
            check(plan.generation, call, answer)

    async def announce(self, groups: Collection[str], at: Version) -> None:
        """Tell every API process that these groups may have changed, up to a version (see
        `neverstale.redis.announcements`). Comes after they were applied, and before the marks that cover them."""
        if self._announcer is not None:
            message = self._announcer.groups(groups, at)
            await self._redis.send((self._redis.publish, self._redis.names.announcements, message))

    async def change(self, transition: Callable[[Generations], Generations]) -> Generations:
        """Apply a transition of the register, however many others do at the same time; unlink what it drops."""
        while True:
            (raw,) = await self._redis.send(("GET", self.names.generations))
            known = generations.decode(raw)
            then = transition(known)
            if then == known:
                return known
            arguments = (known.epoch if raw is not None else "", generations.encode(then))
            (agreed,) = await self._redis.send(await self._redis.call("agree", [self.names.generations], arguments))
            if agreed:
                for one in known.dropped_by(then):
                    await self.unlink(one.id)
                return then

    async def lay(self, generation: Generation) -> None:
        """Make the empty hashes of a generation that nobody knows yet."""
        hashes = hashes_of(self.names, generation)
        for start in range(0, len(hashes), _HASHES_A_PIPELINE):
            some = hashes[start : start + _HASHES_A_PIPELINE]
            await self._redis.send(*(("HSET", key, PRESENT, b"") for key in some))

    async def claim(self, new: Generation) -> Generation:
        """Lay a generation and make it known. Afterwards ask the cluster for the time and call `establish`."""
        await self.lay(new)
        await self.change(lambda known: known.claim(new))
        return replace(new, phase="claimed", birth=None)

    async def forget(self) -> None:
        """Drop the register, whatever it says, and free all that it may have named."""
        await self._redis.send(("DEL", self.names.generations))
        await self._unlink_all(self.names.base)

    async def lost_hash(self, hashes: Sequence[bytes]) -> bytes | None:
        """One of these that is not there."""
        (found,) = await self._redis.send(("EXISTS", *hashes))
        if found == len(hashes):
            return None
        answers = await self._redis.send(*(("EXISTS", key) for key in hashes))
        return next((key for key, there in zip(hashes, answers, strict=True) if not there), None)

    async def lost_set(self, generation: Generation, kept: Kept, cursor: int, count: int) -> tuple[int, bytes | None]:
        """A sorted set that has other members than are counted, among some `count` that come next; and where to go
        on, 0: at the beginning."""
        own = self.names.of(generation.id)
        sizes = kept.hash(own)
        ((raw_cursor, pairs),) = await self._redis.send((b"HSCAN", sizes, cursor, "COUNT", count))
        groups = [group for group in pairs[::2] if group not in (PRESENT, BEYOND)]
        if not groups:
            return int(raw_cursor), None
        sets = [kept.set_of(own, group.decode(errors="replace")) for group in groups]
        # Who has members before and after we looked had them then, or lost and regained them meanwhile: then it is
        # counted again for nothing.
        held = ("HMGET", sizes, *groups)
        before, *members, after = await self._redis.send(held, *(("ZCARD", key) for key in sets), held)
        gone = (
            key
            for key, one, count, two in zip(sets, before, members, after, strict=True)
            if one and one == two and one != b"%d" % count
        )
        return int(raw_cursor), next(gone, None)

    async def false_field(
        self, valued: Valued, cursor: int, count: int, now: Callable[[], Awaitable[Version]]
    ) -> tuple[int, bytes | None]:
        """A field whose value nobody of ours has written, among some `count` of a hash that come next; and where to
        go on, 0: at the beginning. `now` is asked before a version is called one of the future."""
        key, is_ours = valued
        ((raw_cursor, pairs),) = await self._redis.send((b"HSCAN", key, cursor, "COUNT", count))
        latest = to_hex(self.damage.latest()).encode()
        for field, value in zip(pairs[::2], pairs[1::2], strict=True):
            if field == PRESENT:
                continue
            if is_ours is not None:
                if not is_ours(field, value):
                    return int(raw_cursor), field
            elif not is_hex(value) or (value > latest and value > to_hex(await now()).encode()):
                return int(raw_cursor), field
        return int(raw_cursor), None

    async def unlink(self, generation: str) -> int:
        """Free everything of a generation that is in no register any more; returns how many keys."""
        return await self._unlink_all(self.names.of(generation).base)

    async def _unlink_all(self, base: str) -> int:
        pattern, cursor, count = f"{_escaped(base)}:*", b"0", 0
        while True:
            ((cursor, keys),) = await self._redis.send(("SCAN", cursor, "MATCH", pattern, "COUNT", 1_000))
            if keys:
                await self._redis.send(("UNLINK", *keys))
                count += len(keys)
            if int(cursor) == 0:
                return count


def valued_hashes_of(names: DerivedNames, generation: Generation) -> list[Valued]:
    """Those of these hashes whose values say by themselves whether they can be ours."""
    own = names.of(generation.id)
    return [(own.partitions, None), *((one.hash(own), one.is_ours) for one in generation.shape.all)]


def hashes_of(names: DerivedNames, generation: Generation) -> list[bytes]:
    """The hashes that a generation has from its claim on."""
    own = names.of(generation.id)
    return [
        own.partitions,
        *(one.hash(own) for one in generation.shape.all),
        *(own.bucket(number) for number in range(generation.buckets)),
    ]


def _escaped(pattern: str) -> str:
    return "".join("\\" + letter if letter in "*?[]\\^" else letter for letter in pattern)


def begun(generation: Generation, call: Call, answer: list[Any]) -> Begun:
    """What `begin.lua` answered; raises like `check`."""
    if answer[0] != b"begun":
        check(generation, call, answer)
    at_least = max(from_hex(answer[1]), generation.birth or 0)
    return Begun(generation, at_least, answer[2:])


def check(generation: Generation, call: Call, answer: list[Any]) -> None:
    """Return if the script has done its work, else raise `OtherGenerations`, `Lost`, `Changed` or `Behind`."""
    match answer[0]:
        case b"done":
            return
        case b"epoch":
            raise OtherGenerations
        case b"lost":
            raise Lost(generation, call.keys[answer[1] - 1])
        case b"changed":
            raise Changed
        case b"behind":
            raise Behind(from_hex(answer[1]))
    raise AssertionError(f"unknown answer {answer!r}")
