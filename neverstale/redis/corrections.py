"""Corrections: what consumers do to the cache, each step one script, and what the answers mean.

One order matters and is kept by a pipeline: `applied` is raised before entries are invalidated.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from redis.asyncio import Redis

from neverstale.catalog.coverage import Coverage
from neverstale.errors import Outage
from neverstale.keys import Names
from neverstale.redis.announcements import Announcer
from neverstale.redis.cache import KEYS_A_CALL, Cache
from neverstale.redis.commands import WHICH_REDIS, Command, RoundTrip, identity_of, nonce
from neverstale.role import telemetry
from neverstale.role.damage import Damage
from neverstale.versions import Version, is_hex, to_hex

CLAIM_MS: Final = 10_000
NOTHING: Final[Mapping[int, str]] = {}


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
    """What `Corrections.reach` returns, if that was asked for in the same round trip."""


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


class Corrections(Cache):
    """The cache as consumers correct it; they refresh entries, too, as readers fill them.

    With an announcer, what is invalidated is also announced, in the same pipeline.
    """

    def __init__(
        self,
        redis: Redis | None,
        names: Names,
        announcer: Announcer | None = None,
        *,
        round_trip: RoundTrip | None = None,
        damage: Damage | None = None,
    ) -> None:
        super().__init__(redis, names, round_trip=round_trip, damage=damage)
        self.announcer = announcer

    # --- changes

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
        token = nonce()
        registers = [self.names.applied, *map(self.names.floor, floors)]
        forgotten = [*map(self.names.floor, forget)]
        commands: list[Command] = [*WHICH_REDIS]
        if forgotten:
            commands.append(("DEL", *forgotten))
        sent = len(commands) + 1
        commands.append(await self.call("raise", registers, (to_hex(applied), *map(to_hex, floors.values()))))
        for start in range(0, len(keys), KEYS_A_CALL):
            end = start + KEYS_A_CALL
            arguments = (token, lease_ms, *versions_and_refresh[2 * start : 2 * end])
            commands.append(await self.call("invalidate", keys[start:end], arguments))
        applied_at = len(commands)
        voided = [*forget, *(name for name in floors if floors[name])]
        announcement = self._announce_changes(keys, voided, max(applied, *floors.values(), 0))
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
            server, replication, *_ = await self.send(*WHICH_REDIS, deletion, *announcement)
            return Invalidated("x" * len(keys), token, True, identity_of(server, replication))
        letters = b"".join(replies[sent:applied_at]).decode()
        unknown = bool(forgotten) or b"-" in replies[sent - 1]
        reached = _reached_by(account, replies[-1]) if account is not None and whole else None
        return Invalidated(letters, token, unknown, identity_of(replies[0], replies[1]), reached)

    def _announce_changes(self, keys: Sequence[bytes], floors: Sequence[str], at: Version) -> list[Command]:
        if self.announcer is None or not (keys or floors):
            return []
        return [(self.publish, self.names.announcements, self.announcer.changes(keys, floors, at))]

    # --- registers

    async def establish(self, collections: Sequence[str], now: Callable[[], Awaitable[Version]]) -> int:
        """Bring unknown registers back with the present cluster time; returns how many.

        `now` must return a version >= every change that was acknowledged before it was called.
        """
        registers = [self.names.applied, *map(self.names.floor, collections)]
        claim = nonce()
        (claimed,) = await self.send(await self.call("claim", registers, (claim, CLAIM_MS)))
        ours = [register for register, letter in zip(registers, claimed.decode(), strict=True) if letter == "c"]
        if not ours:
            return 0
        present = [to_hex(await now())] * len(ours)
        (established,) = await self.send(await self.call("establish", ours, (claim, *present)))
        count: int = established.count(b"e")
        telemetry.REGISTERS_ESTABLISHED.inc(count)
        return count

    async def forget_false(self, collections: Sequence[str], now: Callable[[], Awaitable[Version]]) -> int:
        """Make registers unknown that nobody can believe: those that hold no version, a claim without an end, or a
        version that is later than what `now` returns, which is asked only if one seems to be. Returns how many there
        were.

        `now` must return a version >= every change that was acknowledged before it was called.
        """
        registers = [self.names.applied, *map(self.names.floor, collections)]
        raws, *lives = await self.send(("MGET", *registers), *(("PTTL", register) for register in registers))
        false, ahead = [], {}
        for key, raw, life in zip(registers, raws, lives, strict=True):
            if raw is None:
                continue
            if raw[:1] == b"?":
                if life < 0:
                    self.damage.met("register", f"{key!r} is claimed for ever")
                    false.append(key)
            elif self.damage.register(raw) is None:
                if is_hex(raw):
                    ahead[key] = raw
                else:
                    false.append(key)
        if ahead:
            present = to_hex(await now()).encode()
            false += [key for key, raw in ahead.items() if raw > present]
        if false:
            await self.delete(false)
        return len(false)

    # --- how far partitions are applied

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
        self,
        group: str,
        identity: str,
        partitions: int,
        marks: Mapping[int, tuple[Version, int]],
        coverage: Coverage | None = None,
        made_up: Mapping[int, str] = NOTHING,
    ) -> dict[int, str]:
        """Note what was applied: partition -> (version, wall time in ms) of its last mark; and with which coverage.

        Returns the partitions that were left as they are, with the digest of the coverage that somebody else has
        applied them with: what that one skipped must be made up for first. `made_up`: those for which it is."""
        digest, text = (coverage.digest, coverage.text) if coverage is not None else ("", "")
        allowed = "".join(f" {partition}={held};" for partition, held in made_up.items())
        arguments: list[Any] = [identity, partitions, to_hex(self.damage.latest()), digest, text, allowed]
        for partition, (version, wall_ms) in marks.items():
            arguments += (partition, to_hex(version), wall_ms)
        commands: list[Command] = [await self.call("watermark", [self.names.watermarks(group)], arguments)]
        if self.announcer is not None:
            message = self.announcer.marks(identity, partitions, marks, digest)
            commands.append((self.publish, self.names.announcements, message))
        others, *_ = await self.send(*commands)
        return {int(partition): held.decode() for partition, held in zip(others[::2], others[1::2], strict=True)}

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
