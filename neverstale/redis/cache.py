"""The cache: what its readers do, each step one script, and what the answers mean.

A missing entry, an outage and a stored absence are three things: `None`, `Outage` and an `Entry` whose body is
`None`. One order matters and is kept by a pipeline: `applied` is fetched after a lease was granted.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis

from neverstale.keys import UNDECLARED, Names, digest
from neverstale.redis import entries
from neverstale.redis.commands import WHICH_REDIS, Command, Commands, RoundTrip, identity_of, nonce
from neverstale.redis.entries import CorruptEntry, DeclaredOtherwise, Entry
from neverstale.redis.watermarks import (
    Watermark,
    Watermarks,
    count_of,
    coverage_field,
    coverage_text_field,
    coverages_of,
    watermarks_of,
)
from neverstale.role import telemetry
from neverstale.role.damage import Damage
from neverstale.versions import Version, to_hex

KEYS_A_CALL: Final = 1000
"""A script call on more keys would hold up everybody else on this Redis."""


@dataclass(frozen=True, slots=True)
class Granted:
    """The lease is ours."""

    previous: Entry | None
    """What stays there meanwhile: a stale entry, or nothing."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Somebody else is filling; at the latest after `left_ms` the lease is free again."""

    left_ms: int


@dataclass(frozen=True, slots=True)
class Leases:
    token: bytes
    answers: list[Granted | Wait | Entry]
    """One for each key, in order."""
    applied: Version | None
    """Fetched after the leases were granted; a fill must have been read at this version or later. `None`:
    unknown, nothing may be cached."""
    floor: Version | None


class Fill(NamedTuple):
    """A value that is offered."""

    key: bytes
    token: bytes
    version: Version
    body: bytes | None
    """JSON; `None`: known to be absent."""
    ttl_ms: int
    shows: str = UNDECLARED
    """What the body shows, see `Resource.shows`."""
    etag: bytes | None = None
    """Of the body, if somebody has made it already."""


class Cache(Commands):
    """The entries, floors and watermarks that one Redis holds, as readers use them."""

    def __init__(
        self, redis: Redis | None, names: Names, *, round_trip: RoundTrip | None = None, damage: Damage | None = None
    ) -> None:
        super().__init__(redis, names, round_trip=round_trip, damage=damage)
        self._partitions = 0
        """Of which watermarks were found when they were last read."""
        self._watermarks: tuple[Any, dict[int, Watermark], frozenset[str]] | None = None
        """How the last ones were spelled, and what they said."""

    async def read(
        self, collection: str, keys: Sequence[bytes], shows: str = UNDECLARED
    ) -> tuple[Version | None, list[Entry | None]]:
        """The collection's floor (`None`: unknown) and the entries that show what is declared, in order, in one
        command."""
        floor, raws = await self.read_raw(collection, keys)
        return floor, await self.decode(keys, raws, shows)

    async def read_raw(self, collection: str, keys: Sequence[bytes]) -> tuple[Version | None, list[bytes | None]]:
        """The same with the entries as Redis holds them."""
        (reply,) = await self.send(self.reading(collection, keys))
        return self.read_in(reply)

    def reading(self, collection: str, keys: Sequence[bytes]) -> Command:
        """The command that `read_raw` sends."""
        return ("MGET", self.names.floor(collection), *keys)

    def read_in(self, reply: list[bytes | None]) -> tuple[Version | None, list[bytes | None]]:
        """What a reply to `reading` says."""
        return self.damage.register(reply[0]), reply[1:]

    async def decode(
        self, keys: Sequence[bytes], raws: Sequence[bytes | None], shows: str = UNDECLARED
    ) -> list[Entry | None]:
        """The entries of what `read_raw` found. Those that do not belong to their keys are deleted, and missing;
        missing are those, too, whose bodies show something else than is declared."""
        found = [self._decode(raw, key, shows) for raw, key in zip(raws, keys, strict=True)]
        corrupt = [key for key, entry in zip(keys, found, strict=True) if isinstance(entry, CorruptEntry)]
        if corrupt:
            await self.delete(corrupt)
        return [None if isinstance(entry, CorruptEntry) else entry for entry in found]

    async def lease(
        self, collection: str, keys: Sequence[bytes], floor: Version, lease_ms: int, shows: str = UNDECLARED
    ) -> Leases:
        """Ask for permission to fill `keys`; an entry that became good meanwhile is the answer instead."""
        token = nonce()
        arguments = (token, lease_ms, to_hex(floor), *(digest(key, shows) for key in keys))
        answers, registers = await self.send(
            await self.call("lease", keys, arguments),
            ("MGET", self.names.applied, self.names.floor(collection)),
        )
        leases = [self._lease_answer(answer, key, shows) for answer, key in zip(answers, keys, strict=True)]
        for word, count in Counter(answer[0] for answer in answers).items():
            telemetry.LEASES.labels(word.decode()).inc(count)
        applied, known_floor = map(self.damage.register, registers)
        return Leases(token, leases, applied, known_floor)

    async def fill(self, fills: Sequence[Fill]) -> list[str]:
        """Offer values. Returns `filled` or why it was refused, in order; a refused fill is nothing bad."""
        arguments: list[Any] = []
        for fill in fills:
            body = fill.body if fill.body is not None else b""
            kind = b"D" if fill.body is not None else b"N"
            etag = fill.etag or (entries.etag_of(body) if fill.body is not None else entries.NO_ETAG)
            arguments += (
                fill.token,
                to_hex(fill.version),
                kind,
                fill.ttl_ms,
                digest(fill.key, fill.shows),
                etag,
                body,
            )
        (answers,) = await self.send(await self.call("fill", [fill.key for fill in fills], arguments))
        results = [answer.decode() for answer in answers]
        for result, count in Counter(results).items():
            telemetry.FILLS.labels(result).inc(count)
        return results

    async def touch(self, keys: Sequence[bytes]) -> None:
        """Note that these entries were read since their last fill."""
        await self.send(await self.call("touch", keys, ()))

    async def watermarks(self, group: str, of: int | None = None) -> Watermarks:
        """As many as there are said to be, or that `of` one partition. Whoever else writes into the hash makes nobody
        read more than that."""
        held, again = None, True
        while held is None:
            server, replication, reply = await self.send(*WHICH_REDIS, self.watermarks_question(group, of))
            held = self.watermarks_in(identity_of(server, replication), reply, of, again=again)
            again = False
        return held

    def watermarks_question(self, group: str, of: int | None = None) -> Command:
        """The command that `watermarks` sends."""
        asked = range(self._partitions) if of is None else (of,)
        return (b"HMGET", self.names.watermarks(group), "partitions", *asked, *map(coverage_field, asked))

    def watermarks_in(
        self, identity: str, reply: Sequence[bytes | None], of: int | None = None, *, again: bool = True
    ) -> Watermarks | None:
        """What a reply to `watermarks_question` says; `None`: there are more of them, `again` asks for all."""
        count, *values = reply
        asked, partitions = len(values) // 2, count_of(count, self.damage)
        if of is None:
            self._partitions = partitions or asked
            if again and self._partitions > asked:
                return None
        before, spelled = self._watermarks, (of, values)
        if before is not None and before[0] == spelled:
            # While nothing happens, they are as they were, and were not ahead of MongoDB's clock even then.
            return Watermarks(identity, partitions, *before[1:])
        held, coverages = watermarks_of(values[:asked], self.damage, of or 0), coverages_of(values[asked:])
        whole = len(held) == asked - values[:asked].count(None)
        self._watermarks = (spelled, held, coverages) if whole else None  # of damage is told each time
        return Watermarks(identity, partitions, held, coverages)

    async def coverages(self, group: str, digests: Sequence[str]) -> dict[str, str | None]:
        """Digest -> the text of a coverage that partitions were applied with, if Redis holds it."""
        (held,) = await self.send(("HMGET", self.names.watermarks(group), *map(coverage_text_field, digests)))
        return {
            digest: text.decode(errors="replace") if text is not None else None
            for digest, text in zip(digests, held, strict=True)
        }

    def _decode(self, raw: bytes | None, key: bytes, shows: str) -> Entry | CorruptEntry | None:
        if raw is None:
            return None
        try:
            return entries.decode(raw, digest(key, shows), self.damage.latest())
        except DeclaredOtherwise:
            return None
        except CorruptEntry as error:
            self.damage.met("entry", f"{key!r}: {error}")
            return error

    def _lease_answer(self, answer: list[Any], key: bytes, shows: str) -> Granted | Wait | Entry:
        word = answer[0]
        if word == b"wait":
            return Wait(answer[1])
        entry = self._decode(answer[1] or None, key, shows)
        held = entry if isinstance(entry, Entry) else None
        if word == b"entry" and held is not None:
            return held
        return Granted(held) if word == b"granted" else Wait(0)
