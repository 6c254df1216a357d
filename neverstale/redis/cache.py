"""The cache: the protocol's steps on Redis, each one script, and what its answers mean.

A missing entry, an outage and a stored absence are three things: `None`, `Outage` and an `Entry` whose body is
`None`. No method here retries an outage; the caller decides. Two orders matter and are kept by pipelines:
`applied` is raised before entries are invalidated, and fetched after a lease was granted.
"""

import re
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError, ResponseError

from neverstale.errors import Outage
from neverstale.keys import Names, digest
from neverstale.redis import entries
from neverstale.redis.announcements import Announcer
from neverstale.redis.entries import CorruptEntry, Entry
from neverstale.redis.foreign_keys import WRONG_TYPE, removed
from neverstale.redis.scripts import Name, Script, scripts
from neverstale.redis.watermarks import Watermarks, count_of
from neverstale.redis.watermarks import read as read_watermarks
from neverstale.role import telemetry
from neverstale.role.damage import Damage
from neverstale.versions import Version, to_hex

Command: TypeAlias = tuple[Any, ...]
RoundTrip: TypeAlias = Callable[[Sequence[Command]], Awaitable[list[Any]]]
"""Sends commands together and answers their replies, in order, errors among them. Raises `RedisError` and `OSError`
if there are none."""

KEYS_A_CALL: Final = 1000
"""A script call on more keys would hold up everybody else on this Redis."""
CLAIM_MS: Final = 10_000
_WITHIN_SCRIPT: Final = re.compile(r": -([A-Z]+) ")
"""Redis 6.2 hides the code of an error within a script: "Error running script (call to f_...): ...: -OOM ..."."""
_WHICH_REDIS: Final[tuple[Command, ...]] = ((b"INFO", b"server"), (b"INFO", b"replication"))
"""Bytes, so that the client leaves the replies as they are: it would spend longer on them than all else takes."""


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


@dataclass(frozen=True, slots=True)
class Fill:
    key: bytes
    token: bytes
    version: Version
    body: bytes | None
    """JSON; `None`: known to be absent."""
    ttl_ms: int
    etag: bytes | None = None
    """Of the body, if somebody has made it already."""


@dataclass(frozen=True, slots=True)
class Invalidated:
    letters: str
    """One for each key, as `invalidate.lua` explains; `x`: deleted, because Redis had no memory for less."""
    token: bytes
    """The lease of the keys whose letter is `r`."""
    unknown: bool
    """A register that was named is unknown: establish it."""
    identity: str
    """The Redis that took the batch, as it named itself on the same connection just before."""
    reached: "dict[int, Reached] | None" = None
    """What `Cache.reach` answers, if that was asked for in the same round trip."""


@dataclass(frozen=True, slots=True)
class Lacks:
    """This Redis was not told of a partition's records from some offset on."""

    since: int | None
    """`None`: it does not say from where on."""


Reached: TypeAlias = Literal["reached", "elsewhere"] | Lacks
"""Whether all records of a partition up to the end of a batch were applied to the Redis that was asked. `elsewhere`:
it is not the one that took the batch, or somebody else's batch came since."""


@dataclass(frozen=True, slots=True)
class Account:
    """What a Redis is to note of a batch, so that it can tell which batches it took."""

    group: str
    begins: Mapping[int, int]
    """Partition -> the offset of the batch's first record there; none for a partition whose earlier records are not
    applied but void."""
    ends: Mapping[int, int]
    """Partition -> the offset after its last record."""


class Cache:
    """One Redis. Raises `Outage("redis")` for everything that is not an answer.

    With an announcer, what is invalidated is also announced, in the same pipeline. Without a `round_trip` every
    exchange is a pipeline on a connection from the client's pool.
    """

    def __init__(
        self,
        redis: Redis,
        names: Names,
        announcer: Announcer | None = None,
        round_trip: RoundTrip | None = None,
        damage: Damage | None = None,
    ) -> None:
        self.names = names
        self.damage = damage or Damage()
        self._redis = redis
        self._announcer = announcer
        self._round_trip = round_trip or self._pipeline
        self._scripts: dict[Name, Script] | None = None
        self._partitions = 0
        """Of which watermarks were found when they were last read."""

    # --- readers

    async def read(self, collection: str, keys: Sequence[bytes]) -> tuple[Version | None, list[Entry | None]]:
        """The collection's floor (`None`: unknown) and the entries, in order, in one command."""
        floor, raws = await self.read_raw(collection, keys)
        return floor, await self.decode(keys, raws)

    async def read_raw(self, collection: str, keys: Sequence[bytes]) -> tuple[Version | None, list[bytes | None]]:
        """The same with the entries as Redis holds them."""
        (raws,) = await self.send(("MGET", self.names.floor(collection), *keys))
        return self.damage.register(raws[0]), raws[1:]

    async def decode(self, keys: Sequence[bytes], raws: Sequence[bytes | None]) -> list[Entry | None]:
        """The entries of what `read_raw` found. Those that do not belong to their keys are deleted, and missing."""
        found = [self._decode(raw, key) for raw, key in zip(raws, keys, strict=True)]
        corrupt = [key for key, entry in zip(keys, found, strict=True) if isinstance(entry, CorruptEntry)]
        if corrupt:
            await self.delete(corrupt)
        return [None if isinstance(entry, CorruptEntry) else entry for entry in found]

    async def lease(self, collection: str, keys: Sequence[bytes], floor: Version, lease_ms: int) -> Leases:
        """Ask for permission to fill `keys`; an entry that became good meanwhile is the answer instead."""
        token = _nonce()
        arguments = (token, lease_ms, to_hex(floor), *map(digest, keys))
        answers, registers = await self.send(
            await self.call("lease", keys, arguments),
            ("MGET", self.names.applied, self.names.floor(collection)),
        )
        leases = [self._lease_answer(answer, key) for answer, key in zip(answers, keys, strict=True)]
        for word, count in Counter(answer[0] for answer in answers).items():
            telemetry.LEASES.labels(word.decode()).inc(count)
        applied, known_floor = map(self.damage.register, registers)
        return Leases(token, leases, applied, known_floor)

    async def fill(self, fills: Sequence[Fill]) -> list[str]:
        """Offer values. Answers `filled` or why it was refused, in order; a refused fill is nothing bad."""
        arguments: list[Any] = []
        for fill in fills:
            body = fill.body if fill.body is not None else b""
            kind = b"D" if fill.body is not None else b"N"
            etag = fill.etag or (entries.etag_of(body) if fill.body is not None else entries.NO_ETAG)
            arguments += (fill.token, to_hex(fill.version), kind, fill.ttl_ms, etag, body)
        (answers,) = await self.send(await self.call("fill", [fill.key for fill in fills], arguments))
        results = [answer.decode() for answer in answers]
        for result, count in Counter(results).items():
            telemetry.FILLS.labels(result).inc(count)
        return results

    async def touch(self, keys: Sequence[bytes]) -> None:
        """Note that these entries were read since their last fill."""
        await self.send(await self.call("touch", keys, ()))

    # --- consumers

    async def invalidate(
        self,
        applied: Version,
        keys: Sequence[bytes],
        versions_and_refresh: Sequence[bytes | str],
        floors: Mapping[str, Version],
        lease_ms: int,
        forget: Iterable[str] = (),
        account: Account | None = None,
        *,
        whole: bool = False,
    ) -> Invalidated:
        """Apply a batch of changes: raise `applied`, then the floors, then mark the entries stale.

        `versions_and_refresh` holds two items for each key: the version, and `n`, `r` or `t` (see `invalidate.lua`).
        The floors of the collections in `forget` become unknown first, which voids all their entries until they are
        established at the present time. `account`: for which `reach` is to find the batch. `whole`: there is nothing
        to be done for the batch but this, so `reach` follows at once.
        """
        token = _nonce()
        registers = [self.names.applied, *map(self.names.floor, floors)]
        forgotten = [*map(self.names.floor, forget)]
        commands: list[Command] = [*_WHICH_REDIS]
        if forgotten:
            commands.append(("DEL", *forgotten))
        sent = len(commands) + 1
        commands.append(await self.call("raise", registers, (to_hex(applied), *map(to_hex, floors.values()))))
        for start in range(0, len(keys), KEYS_A_CALL):
            end = start + KEYS_A_CALL
            arguments = (token, lease_ms, *versions_and_refresh[2 * start : 2 * end])
            commands.append(await self.call("invalidate", keys[start:end], arguments))
        applied_at = len(commands)
        announcement = self._announce_changes(keys, [*forget, *(name for name in floors if floors[name])])
        commands += announcement
        if account is not None:
            # Last, on the same connection: where this is found, all the rest is.
            commands.append(await self.call("stamp", [self.names.reached(account.group)], (token, *account.ends)))
            if whole:
                commands.append(await self._reach(account, token))
        try:
            replies = await self.send(*commands)
        except Outage as outage:
            if outage.reason != "OOM":
                raise
            # Redis 6.2 refuses every script when memory is full. Deleting is always allowed and always safe: a
            # missing entry has no lease, and a missing register means unknown.
            deletion = ("DEL", *registers, *forgotten, *keys)
            server, replication, *_ = await self.send(*_WHICH_REDIS, deletion, *announcement)
            return Invalidated("x" * len(keys), token, True, identity_of(server, replication))
        letters = b"".join(replies[sent:applied_at]).decode()
        unknown = bool(forgotten) or b"-" in replies[sent - 1]
        reached = _reached_by(account, replies[-1]) if account is not None and whole else None
        return Invalidated(letters, token, unknown, identity_of(replies[0], replies[1]), reached)

    async def establish(self, collections: Sequence[str], now: Callable[[], Awaitable[Version]]) -> int:
        """Bring unknown registers back with the present cluster time; answers how many.

        `now` must answer a version >= every change that was acknowledged before it was called.
        """
        registers = [self.names.applied, *map(self.names.floor, collections)]
        nonce = _nonce()
        (claimed,) = await self.send(await self.call("claim", registers, (nonce, CLAIM_MS)))
        ours = [register for register, letter in zip(registers, claimed.decode(), strict=True) if letter == "c"]
        if not ours:
            return 0
        present = [to_hex(await now())] * len(ours)
        (established,) = await self.send(await self.call("establish", ours, (nonce, *present)))
        count: int = established.count(b"e")
        telemetry.REGISTERS_ESTABLISHED.inc(count)
        return count

    async def identity(self) -> str:
        """Which Redis this is."""
        server, replication = await self.send(*_WHICH_REDIS)
        return identity_of(server, replication)

    async def reach(self, account: Account, token: bytes) -> dict[int, Reached]:
        """Note how far partitions are applied, and learn what this Redis lacks. `token`: of the batch."""
        (answers,) = await self.send(await self._reach(account, token))
        return _reached_by(account, answers)

    async def reached(self, group: str, partitions: Sequence[int]) -> dict[int, int]:
        """Partition -> the offset up to which it is applied here, of those of which that is known."""
        (held,) = await self.send(("HMGET", self.names.reached(group), *partitions))
        return {
            partition: int(offset)
            for partition, offset in zip(partitions, held, strict=True)
            if offset is not None and offset.isdigit() and len(offset) < 20
        }

    async def forget_reached(self, group: str, partitions: Sequence[int]) -> None:
        self.damage.met("account", f"partitions {list(partitions)} are applied beyond their ends")
        await self.send(("HDEL", self.names.reached(group), *partitions))

    async def _reach(self, account: Account, token: bytes) -> Command:
        arguments: list[Any] = [token]
        for partition, end in account.ends.items():
            arguments += (partition, account.begins.get(partition, ""), end)
        return await self.call("reach", [self.names.reached(account.group)], arguments)

    async def set_watermarks(
        self, group: str, identity: str, partitions: int, marks: Mapping[int, tuple[Version, int]]
    ) -> None:
        """Note what was applied: partition -> (version, wall time in ms) of its last mark."""
        arguments: list[Any] = [identity, partitions, to_hex(self.damage.latest())]
        for partition, (version, wall_ms) in marks.items():
            arguments += (partition, to_hex(version), wall_ms)
        commands: list[Command] = [await self.call("watermark", [self.names.watermarks(group)], arguments)]
        if self._announcer is not None:
            message = self._announcer.marks(identity, partitions, marks)
            commands.append(("PUBLISH", self.names.announcements, message))
        await self.send(*commands)

    async def announce_groups(self, groups: Collection[str]) -> None:
        """Tell that pages of these groups may have changed; see `neverstale.redis.announcements`."""
        if self._announcer is not None:
            await self.send(("PUBLISH", self.names.announcements, self._announcer.groups(groups)))

    async def watermarks(self, group: str) -> Watermarks:
        """As many as there are said to be. Whoever else writes into the hash makes nobody read more than that."""
        key = self.names.watermarks(group)
        for _ in range(2):
            asked = self._partitions
            server, replication, (count, *values) = await self.send(
                *_WHICH_REDIS, (b"HMGET", key, "partitions", *range(asked))
            )
            partitions = count_of(count, self.damage)
            self._partitions = partitions or asked
            if self._partitions <= asked:
                break
        return Watermarks(identity_of(server, replication), partitions, read_watermarks(values, self.damage))

    async def topics(self, group: str, partitions: Sequence[int]) -> dict[int, str | None]:
        """Partition -> the id of the topic that was applied there; `None`: none was."""
        (held,) = await self.send(("HMGET", self.names.topics(group), *partitions))
        return {
            partition: topic.decode(errors="replace") if topic is not None else None
            for partition, topic in zip(partitions, held, strict=True)
        }

    async def note_topics(self, group: str, topics: Mapping[int, str]) -> None:
        pairs = [part for pair in topics.items() for part in pair]
        await self.send(("HSET", self.names.topics(group), *pairs))

    # --- anybody

    async def delete(self, keys: Sequence[bytes]) -> None:
        """What an error path may do: a missing entry is only a miss."""
        await self.send(("DEL", *keys))

    async def ping(self) -> None:
        await self.send(("PING",))

    async def call(self, name: Name, keys: Sequence[bytes], arguments: Sequence[Any]) -> Command:
        """The command that runs a script, to be sent."""
        if self._scripts is None:
            await self._load_scripts()
        assert self._scripts is not None
        return ("EVALSHA", self._scripts[name].sha, len(keys), *keys, *arguments)

    def _announce_changes(self, keys: Sequence[bytes], floors: Sequence[str]) -> list[Command]:
        if self._announcer is None or not (keys or floors):
            return []
        return [("PUBLISH", self.names.announcements, self._announcer.changes(keys, floors))]

    def _decode(self, raw: bytes | None, key: bytes) -> Entry | CorruptEntry | None:
        if raw is None:
            return None
        try:
            return entries.decode(raw, digest(key), self.damage.latest())
        except CorruptEntry as error:
            self.damage.met("entry", f"{key!r}: {error}")
            return error

    def _lease_answer(self, answer: list[Any], key: bytes) -> Granted | Wait | Entry:
        word = answer[0]
        if word == b"wait":
            return Wait(answer[1])
        entry = self._decode(answer[1] or None, key)
        held = entry if isinstance(entry, Entry) else None
        if word == b"entry" and held is not None:
            return held
        return Granted(held) if word == b"granted" else Wait(0)

    async def _load_scripts(self) -> None:
        (server,) = await self._exchange((_WHICH_REDIS[0],))
        known = scripts(flags=int(_info(server, "redis_version").split(".")[0]) >= 7)
        await self._exchange([("SCRIPT", "LOAD", script.source) for script in known.values()])
        self._scripts = known

    async def send(self, *commands: Command) -> list[Any]:
        """One round trip, in order. Scripts that a restart or failover has forgotten are loaded, foreign keys are
        deleted, and all is sent again: every step of ours may run twice."""
        try:
            return await self._exchange(commands)
        except NoScriptError:
            await self._load_scripts()
        except Outage as outage:
            if outage.reason != WRONG_TYPE:
                raise
            # Who met the same key at the same moment may have deleted it already.
            await removed(commands, self.names, self.damage, self._exchange)
        try:
            return await self._exchange(commands)
        except NoScriptError:
            raise Outage("redis", "NOSCRIPT") from None

    async def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        try:
            replies = await self._round_trip(commands)
        except (RedisError, OSError) as error:
            raise _outage(error) from error
        for reply in replies:
            if isinstance(reply, NoScriptError):
                raise reply
            if isinstance(reply, Exception):
                raise _outage(reply) from reply
        return replies

    async def _pipeline(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies


def _outage(error: Exception) -> Outage:
    telemetry.OUTAGES.labels("redis").inc()
    if isinstance(error, OutOfMemoryError):
        return Outage("redis", "OOM")
    if isinstance(error, ResponseError) and (within := _WITHIN_SCRIPT.search(str(error))):
        return Outage("redis", within[1])
    if type(error) is ResponseError and str(error)[:1].isupper():
        # An error reply starts with its code: MISCONF, BUSY, NOREPLICAS, ... (known ones are types of their own)
        return Outage("redis", str(error).split(" ", 1)[0])
    return Outage("redis", type(error).__name__)


def _nonce() -> bytes:
    return secrets.token_hex(8).encode("ascii")


def _reached_by(account: Account, answers: list[bytes]) -> dict[int, Reached]:
    return {partition: _reached(answer) for partition, answer in zip(account.ends, answers, strict=True)}


def _reached(answer: bytes) -> Reached:
    match answer:
        case b"k":
            return "reached"
        case b"?":
            return "elsewhere"
        case b"-":
            return Lacks(None)
    return Lacks(int(answer))


def _info(reply: bytes, name: str) -> str:
    match = re.search(rf"^{name}:(\S+)", reply.decode(), re.MULTILINE)
    if match is None:
        raise Outage("redis", f"INFO without {name}")
    return match[1]


def identity_of(server: bytes, replication: bytes) -> str:
    """Changes when Redis restarts (`run_id`) and when another server takes over (`master_replid`)."""
    return f"{_info(server, 'run_id')[:16]}-{_info(replication, 'master_replid')[:16]}"
