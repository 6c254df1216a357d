"""Real MongoDB, real Redis, the shipped `Cache` and `Loader`, and their steps in any order Hypothesis thinks of.

What `test_protocol_search` proves for all orders of a few steps, with numbers for versions, this tests for some
orders of many steps on the real thing: versions are the change stream's, values those of snapshot reads.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neverstale.keys import canonical
from neverstale.redis.cache import Fill, Granted
from neverstale.redis.entries import Entry
from neverstale.versions import Version, to_hex
from tests.properties.cache_world import KEYS, RESOURCE, Servers, World, servers
from tests.properties.noticing import finds
from tests.support.forms import FULL

T = TypeVar("T")
LEASE_MS = 600_000
TTL_MS = 600_000
COLLECTION = RESOURCE.collection


@dataclass(frozen=True)
class Began:
    """A reader that knows the floor; and what was applied to its key before it asked."""

    key: int
    floor: Version
    applied: Version


@dataclass(frozen=True)
class Leased:
    """Somebody with a lease, who may read MongoDB at `at_least` or later."""

    key: int
    token: bytes
    at_least: Version


class Claim:
    """`Cache.establish`, held up where it asks for the time and again where it has been told."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._asks, self._may_ask = asyncio.Event(), asyncio.Event()
        self._knows, self._may_establish = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[int] | None = None

    async def begin(self) -> bool:
        """Whether there was anything to claim."""
        self._task = asyncio.create_task(self._world.cache.establish([COLLECTION], self._now))
        asks = asyncio.create_task(self._asks.wait())
        await asyncio.wait((self._task, asks), return_when=asyncio.FIRST_COMPLETED)
        asks.cancel()
        return self._asks.is_set()

    async def _now(self) -> Version:
        self._asks.set()
        await self._may_ask.wait()
        present = await self._world.loader.now()
        self._knows.set()
        await self._may_establish.wait()
        return present

    async def ask(self) -> None:
        self._may_ask.set()
        await self._knows.wait()

    async def establish(self) -> None:
        self._may_establish.set()
        assert self._task is not None
        await self._task

    async def vanish(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait((self._task,))


@dataclass(frozen=True)
class Careless:
    """What this machine leaves out, to see that it would notice."""

    readers_forget_applied: bool = False
    values_are_just_set: bool = False


class CacheMachine:
    """Each step is told by a number what to choose; a step for which there is nothing to do does nothing."""

    def __init__(self, servers: Servers, careless: Careless) -> None:
        self.careless = careless
        self._exits = ExitStack()
        self.world: World = self._exits.enter_context(servers.world())
        self.cache = self.world.cache
        self.applied: dict[int, Version] = dict.fromkeys(KEYS, 0)
        """Key -> the last of its changes that was applied, or the last floor."""
        self.claims: list[Claim] = []
        self.claims_that_know: list[Claim] = []
        self.began: list[Began] = []
        self.leased: list[Leased] = []
        self.offers: list[Fill] = []
        self.filled = 0
        self.establish(0)

    def close(self) -> None:
        for claim in (*self.claims, *self.claims_that_know):
            self.do(claim.vanish())
        self._exits.close()

    def do(self, step: Awaitable[T]) -> T:
        return self.world.do(step)

    # A writer

    def write(self, n: int) -> None:
        n, key = choose(n, KEYS)
        _, how = choose(n, ("put", "put", "delete", "transaction"))
        if how == "put":
            self.world.put(key)
        elif how == "delete":
            self.world.delete(key)
        else:
            self.world.put_both()

    # Consumers: any change, any number of times, in any order

    def apply(self, n: int) -> None:
        if not self.world.changes:
            return
        n, refresh = choose(n, "nrt")
        n, recent = choose(n, (1, 3, len(self.world.changes)))
        _, change = choose(n, self.world.changes[-recent:])
        entry, arguments = self.world.entry(change.key), [to_hex(change.version), refresh]
        done = self.do(self.cache.invalidate(change.version, [entry], arguments, {}, LEASE_MS))
        self._is_applied(change.key, change.version)
        if done.letters == "r":
            self.leased.append(Leased(change.key, done.token, change.version))

    def apply_a_batch(self, n: int) -> None:
        n, size = choose(n, range(1, 6))
        n, start = choose(n, range(len(self.world.changes) + 1))
        newest = {change.key: change.version for change in self.world.changes[start : start + size]}
        arguments = [item for version in newest.values() for item in (to_hex(version), "n")]
        entries = [self.world.entry(key) for key in newest]
        self.do(self.cache.invalidate(max(newest.values(), default=0), entries, arguments, {}, LEASE_MS))
        for key, version in newest.items():
            self._is_applied(key, version)

    def raise_applied_and_stop(self, n: int) -> None:
        if self.world.changes:
            _, change = choose(n, self.world.changes)
            self.do(self.cache.invalidate(change.version, [], [], {}, LEASE_MS))

    def raise_the_floor(self, n: int) -> None:
        if not self.world.changes:
            return
        n, version = choose(n, [change.version for change in self.world.changes])
        _, lost = choose(n, (False, False, True))
        if lost:  # Nobody knows what the lost records said: everything up to now is void.
            version = self.world.changes[-1].version
            self.do(self.cache.invalidate(0, [], [], {}, LEASE_MS, forget=[COLLECTION]))
        else:
            self.do(self.cache.invalidate(version, [], [], {COLLECTION: version}, LEASE_MS))
        for key in KEYS:
            self._is_applied(key, version)

    def _is_applied(self, key: int, version: Version) -> None:
        self.applied[key] = max(self.applied[key], version)

    # Registers come back: claim, ask, establish

    def establish(self, _: int) -> None:
        self.do(self.cache.establish([COLLECTION], self.world.loader.now))

    def claim(self, _: int) -> None:
        claim = Claim(self.world)
        if self.do(claim.begin()):
            self.claims.append(claim)

    def ask_for_the_time(self, n: int) -> None:
        if self.claims:
            claim = take(n, self.claims)
            self.do(claim.ask())
            self.claims_that_know.append(claim)

    def establish_what_was_claimed(self, n: int) -> None:
        if self.claims_that_know:
            self.do(take(n, self.claims_that_know).establish())

    # Readers

    def begin(self, n: int) -> None:
        _, key = choose(n, KEYS)
        floor, (entry,) = self.do(self.cache.read(COLLECTION, [self.world.entry(key)]))
        if floor is None:
            return
        if entry is not None and entry.fresh and entry.version >= floor:
            self.is_right(key, entry, self.applied[key])
            self.do(self.cache.touch([self.world.entry(key)]))
        else:
            self.began.append(Began(key, floor, self.applied[key]))

    def lease(self, n: int) -> None:
        if not self.began:
            return
        n, is_slow = choose(n, (False, True))
        reader = take(n, self.began)
        entry = self.world.entry(reader.key)
        leases = self.do(self.cache.lease(COLLECTION, [entry], reader.floor, LEASE_MS))
        (answer,) = leases.answers
        if isinstance(answer, Entry):
            self.is_right(reader.key, answer, reader.applied)
        elif isinstance(answer, Granted):
            if is_slow:  # Its lease runs out before it goes on, so others get one too.
                self.do(self.world.redis.setrange(entry, 51, "0" * 12 + "1"))
            if leases.applied is not None:
                at_least = self.world.start if self.careless.readers_forget_applied else leases.applied
                self.leased.append(Leased(reader.key, leases.token, at_least))

    def load(self, n: int) -> None:
        if not self.leased:
            return
        n, lags = choose(n, (False, True, True))
        n, which = divmod(n, 100)
        lease = take(n, self.leased)
        if lags:
            _, version = choose(which, self.world.versions(lease.at_least))
            snapshot = self.do(self.world.load_behind(lease.key, version))
        else:
            snapshot = self.do(self.world.loader.load(RESOURCE, [lease.key], lease.at_least))
        assert snapshot.version >= lease.at_least
        body = snapshot.bodies.get(canonical(lease.key))
        assert body == self.world.at(lease.key, snapshot.version), "a snapshot shows what is true at its version"
        self.offers.append(Fill(self.world.entry(lease.key), lease.token, snapshot.version, body, TTL_MS))

    def fill(self, n: int) -> None:
        if not self.offers:
            return
        n, again = choose(n, (False, False, True))  # as when a pipeline is sent again
        offer = choose(n, self.offers)[1] if again else take(n, self.offers)
        if self.careless.values_are_just_set:
            self.do(self.cache.delete([offer.key]))
            lease = self.do(self.cache.lease(COLLECTION, [offer.key], 0, LEASE_MS))
            offer = offer._replace(token=lease.token)
        self.filled += self.do(self.cache.fill([offer])) == ["filled"]

    def read(self, n: int) -> None:
        """All the steps of a reader, the last of each kind first."""
        for step in (self.begin, self.lease, self.load, self.fill):
            step(n)

    # Redis

    def lose(self, n: int) -> None:
        names = self.cache.names
        n, key = choose(n, KEYS)
        _, what = choose(n, (*["entry"] * 8, "applied", "floor", "all", "scripts"))
        if what == "scripts":
            self.do(self.world.redis.script_flush())
        elif what == "all":
            self.do(self.cache.delete([*self.do(self.world.names()), names.applied]))
        else:
            lost = {"entry": self.world.entry(key), "applied": names.applied, "floor": names.floor(COLLECTION)}
            self.do(self.cache.delete([lost[what]]))

    # What always holds

    def nothing_stale_is_served(self) -> None:
        for key, entry in self._served():
            self.is_right(key, entry, self.applied[key])

    def _served(self) -> list[tuple[int, Entry]]:
        """What a reader would be answered from the cache now."""
        floor, held = self.do(self.cache.read(COLLECTION, [self.world.entry(key) for key in KEYS]))
        pairs = zip(KEYS, held, strict=True)
        return [(key, entry) for key, entry in pairs if entry and entry.fresh and floor and entry.version >= floor]

    def is_right(self, key: int, entry: Entry, applied: Version) -> None:
        assert entry.version >= applied, "a value older than an applied change is served"
        assert entry.body == self.world.at(key, entry.version), "an entry holds what was true at its version"

    def everything_arrives_in_the_end(self) -> None:
        for change in self.world.changes:
            name, arguments = self.world.entry(change.key), [to_hex(change.version), "n"]
            self.do(self.cache.invalidate(change.version, [name], arguments, {}, LEASE_MS))
            self._is_applied(change.key, change.version)
        self.nothing_stale_is_served()
        for key, entry in self._served():
            assert entry.body == self.world.at(key, 2**64 - 1), "what is left in the cache is what is true now"


def choose(n: int, options: Sequence[T]) -> tuple[int, T]:
    """One of the options, and what is left of the number for further choices."""
    n, index = divmod(n, len(options))
    return n, options[index]


def take(n: int, waiting: list[T]) -> T:
    """One of those who wait, who then waits no more; the last one first."""
    return waiting.pop(-1 - n % len(waiting))


WEIGHTS = {
    CacheMachine.write: 4,
    CacheMachine.apply: 5,
    CacheMachine.apply_a_batch: 1,
    CacheMachine.raise_applied_and_stop: 1,
    CacheMachine.raise_the_floor: 1,
    CacheMachine.establish: 2,
    CacheMachine.claim: 1,
    CacheMachine.ask_for_the_time: 1,
    CacheMachine.establish_what_was_claimed: 1,
    CacheMachine.begin: 2,
    CacheMachine.lease: 3,
    CacheMachine.load: 3,
    CacheMachine.fill: 3,
    CacheMachine.read: 8,
    CacheMachine.lose: 4,
}
VERBS = [step.__name__ for step, weight in WEIGHTS.items() for _ in range(weight)]
STEPS = st.lists(st.tuples(st.sampled_from(VERBS), st.integers(0, 2**20)), min_size=40, max_size=80)


def run(servers: Servers, careless: Careless, steps: Sequence[tuple[str, int]]) -> int:
    """Take the steps; answers how many fills were accepted."""
    machine = CacheMachine(servers, careless)
    try:
        for verb, n in steps:
            getattr(machine, verb)(n)
            machine.nothing_stale_is_served()
        filled = machine.filled
        machine.everything_arrives_in_the_end()
        return filled
    finally:
        machine.close()


@pytest.mark.timeout(300)
def test_no_order_of_steps_on_real_servers_serves_a_stale_value(
    mongo_uri: str, redis_url: str, database: str
) -> None:
    fills = []

    @given(STEPS)
    @settings(max_examples=1000 if FULL else 40, deadline=None)
    def check(steps: list[tuple[str, int]]) -> None:
        fills.append(run(started, Careless(), steps))

    with servers(mongo_uri, redis_url, database) as started:
        check()
    assert sum(fills) > len(fills), "too little was cached to tell anything"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("careless", [Careless(readers_forget_applied=True), Careless(values_are_just_set=True)])
def test_the_machine_notices_what_is_left_out(
    careless: Careless, mongo_uri: str, redis_url: str, database: str
) -> None:
    with servers(mongo_uri, redis_url, database) as started:
        finds(STEPS, lambda steps: run(started, careless, steps), "older than an applied change", start=1)
