"""A resource's derived cell, written by the owners of two partitions with an account for each, as a state machine of
the shipped `stamp.lua`, `reach.lua` and `watermark.lua`.

Each partition is a log of records; record n says what was changed at version n + 1, and is a mark of that, too.

* consumers, any number of each partition and of several at a time (a paused one comes back): apply the records from
  some offset on, then stamp the batch, then ask how far the partition is reached, then write the watermark. Whoever
  learns that records are lacking goes back to the first of them; whoever learns that nobody knows, makes all void
  that was before his batch;
* a consumer leaves the cell behind: it goes on in the log as if the batch had been applied;
* a replica that holds any earlier state of the cell takes over, under another identity.

**The claim**: a partition's watermark that names the Redis which holds it is never above a record of that partition
which this Redis was not told of, and which is not void there.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from neverstale.redis.scripts import Name
from neverstale.versions import to_hex
from tests.support.lua_redis import LuaRedis, Snapshot

REACHED: Final = b"c:reached:g"
MARKS: Final = b"c:watermarks:g"
PARTITIONS: Final = 2
LATEST: Final = to_hex(1 << 40)
Told: TypeAlias = tuple[frozenset[int], ...]
"""Of each partition, the records that the Redis was told of, or that are void there."""
Label: TypeAlias = tuple[Any, ...]


class Batch(NamedTuple):
    partition: int
    slot: int
    """Which of the partition's consumers; its tokens are its own."""
    first: int | None
    """`None`: all before it is void."""
    begin: int
    end: int
    step: str
    """`applied`, `stamped`, `reached`."""
    identity: int
    """Of the Redis that took it, as it named itself before."""


class State(NamedTuple):
    redis: Snapshot
    told: Told
    identity: int
    replica: tuple[Snapshot, Told]
    positions: tuple[int, ...]
    """Partition -> the offset from which its next owner goes on."""
    batches: tuple[Batch, ...] = ()


class DerivedCell:
    """All steps from a state. `records`: of each partition. `shared_account`, `asks_first`: rules to drop."""

    def __init__(
        self,
        records: tuple[int, int] = (2, 1),
        consumers: int = 1,
        failovers: int = 1,
        *,
        shared_account: bool = False,
        asks_first: bool = True,
        scripts: Mapping[Name, str] | None = None,
    ) -> None:
        self._records = records
        self._consumers = consumers
        self._failovers = failovers
        self._shared = shared_account
        self._asks_first = asks_first
        self._redis = LuaRedis(scripts)

    def start(self) -> State:
        self._redis.restore(())
        empty: Told = (frozenset(),) * PARTITIONS
        # What was before the first record is known to be told.
        for partition in range(PARTITIONS):
            self._redis.run("stamp", [REACHED], ["begin", self._field(partition)])
            self._redis.run("reach", [REACHED], ["begin", self._field(partition), "", 0])
        redis = self._redis.snapshot()
        return State(redis, empty, 0, (redis, empty), (0,) * PARTITIONS)

    def broken(self, state: State) -> bool:
        self._redis.restore(state.redis)
        held = dict(self._redis.hash(MARKS))
        for partition in range(PARTITIONS):
            mark = held.get(str(partition).encode())
            if mark is None or mark[31:] != _name(state.identity).encode():
                continue
            if not set(range(int(mark[:16], 16))) <= state.told[partition]:
                return True
        return False

    def steps(self, state: State) -> Iterator[tuple[Label, State]]:
        for partition in range(PARTITIONS):
            yield from self._begin(state, partition)
        for batch in state.batches:
            rest = state._replace(batches=tuple(one for one in state.batches if one is not batch))
            yield ("a consumer of {} vanishes", batch.partition), rest
            if batch.step == "applied":
                yield self._stamp(rest, batch)
            elif batch.step == "stamped" and self._asks_first:
                yield self._reach(rest, batch)
            else:
                yield self._mark(rest, batch)
        if state.replica != (state.redis, state.told):
            yield ("the replica catches up",), state._replace(replica=(state.redis, state.told))
        if state.identity < self._failovers:
            redis, told = state.replica
            yield ("the replica takes over",), state._replace(redis=redis, told=told, identity=state.identity + 1)

    def _begin(self, state: State, partition: int) -> Iterator[tuple[Label, State]]:
        begin = state.positions[partition]
        busy = {batch.slot for batch in state.batches if batch.partition == partition}
        for end in range(begin + 1, self._records[partition] + 1):
            passed = _set(state.positions, partition, end)
            yield (
                ("partition {} leaves the cell behind from {} to {}", partition, begin, end),
                state._replace(positions=passed),
            )
            for slot in range(self._consumers):
                if slot not in busy:
                    batch = Batch(partition, slot, begin, begin, end, "applied", state.identity)
                    yield ("partition {} applies {} to {}", partition, begin, end), self._applied(state, batch)
                    break

    def _applied(self, state: State, batch: Batch) -> State:
        more = state.told[batch.partition] | set(range(batch.begin, batch.end))
        if batch.first is None:
            more |= set(range(batch.begin))
        told = _set(state.told, batch.partition, frozenset(more))
        return state._replace(told=told, batches=tuple(sorted((*state.batches, batch), key=str)))

    def _stamp(self, rest: State, batch: Batch) -> tuple[Label, State]:
        if batch.identity != rest.identity:
            return ("its pipeline to {} breaks", batch.identity), rest
        redis = self._run(rest.redis, "stamp", [REACHED], [_token(batch), self._field(batch.partition)])[1]
        return ("partition {} stamps", batch.partition), self._then(rest._replace(redis=redis), batch, "stamped")

    def _reach(self, rest: State, batch: Batch) -> tuple[Label, State]:
        first = "" if batch.first is None else batch.first
        arguments = [_token(batch), self._field(batch.partition), first, batch.end]
        (answer,), redis = self._run(rest.redis, "reach", [REACHED], arguments)
        state = rest._replace(redis=redis)
        label: Label = ("partition {} is told {}", batch.partition, answer)
        if answer == b"k":
            state = state._replace(positions=_set(state.positions, batch.partition, batch.end))
            return label, self._then(state, batch, "reached")
        if answer == b"?":
            return label, state
        if answer == b"-":
            void = batch._replace(first=None, step="applied", identity=state.identity)
            return label, self._applied(state, void)
        return label, state._replace(positions=_set(state.positions, batch.partition, int(answer)))

    def _mark(self, rest: State, batch: Batch) -> tuple[Label, State]:
        arguments = [_name(batch.identity), PARTITIONS, LATEST, "", "", "", batch.partition, to_hex(batch.end), 1]
        redis = self._run(rest.redis, "watermark", [MARKS], arguments)[1]
        return ("partition {} is marked {}", batch.partition, batch.end), rest._replace(redis=redis)

    def _then(self, state: State, batch: Batch, step: str) -> State:
        return state._replace(batches=tuple(sorted((*state.batches, batch._replace(step=step)), key=str)))

    def _run(self, redis: Snapshot, name: Name, keys: list[bytes], arguments: list[Any]) -> tuple[Any, Snapshot]:
        self._redis.restore(redis)
        answer = self._redis.run(name, keys, arguments)
        return answer, self._redis.snapshot()

    def _field(self, partition: int) -> int:
        return 0 if self._shared else partition


def _token(batch: Batch) -> str:
    return f"{batch.partition}-{batch.slot}-{batch.begin}-{batch.end}"


def _name(identity: int) -> str:
    return f"redis-{identity}"


def _set(values: tuple[Any, ...], at: int, value: Any) -> tuple[Any, ...]:
    return (*values[:at], value, *values[at + 1 :])
