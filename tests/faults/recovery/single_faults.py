"""Single faults: each hurts one process and leaves it to the others, or to whoever starts it again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from signal import SIGCONT, SIGSTOP
from typing import Final

from neverstale.ops.stack.process import RunningProcess
from neverstale.ops.stack.role import RunningRole
from tests.faults.rig.bench import Bench
from tests.faults.rig.pipeline import Pipeline, metrics, pipeline

PRODUCT: Final = ("KAFKA__SESSION_TIMEOUT_MS", "WATCHER__HEARTBEAT_MS", "WATCHER__MAX_AWAIT_MS")
"""Settings that are as we ship them here, and shorter in the experiments."""


@dataclass
class Recovering:
    """A pipeline of two watchers, two named consumers and an API, with the settings that we ship."""

    pipe: Pipeline
    watchers: list[RunningRole]
    consumers: list[RunningRole]
    api: RunningRole
    mongod: RunningProcess
    redis: RunningProcess
    broker: RunningProcess

    async def leader(self) -> RunningRole:
        """The watcher that holds the lease."""
        for watcher in self.watchers:
            if (await metrics(watcher)).get("neverstale_watcher_leads"):
                return watcher
        return self.watchers[0]


@asynccontextmanager
async def recovering(bench: Bench) -> AsyncIterator[Recovering]:
    async with pipeline(bench, None) as pipe:
        for name in PRODUCT:
            pipe.environment.pop(name)
        names = [{"KAFKA__GROUP_INSTANCE_ID": f"{pipe.name}-{number}"} for number in range(2)]
        roles = await asyncio.gather(
            pipe.start("watcher"),
            pipe.start("watcher"),
            *(pipe.start("consumer", **variables) for variables in names),
            pipe.start("api"),
        )
        servers = (await bench.mongod()).members[0], await bench.redis(), (await bench.kafka()).cluster.members[0]
        yield Recovering(pipe, list(roles[:2]), list(roles[2:4]), roles[4], *servers)


MakeFault = Callable[[Recovering], Awaitable[None]]


async def _frozen(process: RunningProcess) -> None:
    process.signal(SIGSTOP)


async def kill_watcher(world: Recovering) -> None:
    (await world.leader()).kill()


async def freeze_watcher(world: Recovering) -> None:
    await _frozen(await world.leader())


async def restart_watcher(world: Recovering) -> None:
    await (await world.leader()).restart()


async def kill_consumer(world: Recovering) -> None:
    await world.consumers[0].restart(0)


async def lose_consumer(world: Recovering) -> None:
    world.consumers[0].kill()


async def freeze_consumer(world: Recovering) -> None:
    await _frozen(world.consumers[0])


async def restart_consumer(world: Recovering) -> None:
    await world.consumers[0].restart()


async def add_consumer(world: Recovering) -> None:
    world.consumers.append(await world.pipe.start("consumer"))


async def remove_consumer(world: Recovering) -> None:
    await world.consumers.pop().stop()


async def restart_broker(world: Recovering) -> None:
    await world.broker.restart(0)


async def restart_redis(world: Recovering) -> None:
    await world.redis.restart(0)


async def restart_primary(world: Recovering) -> None:
    await world.mongod.restart(0)


async def heal(world: Recovering) -> None:
    """Everything that should run does."""
    for process in (*world.watchers, *world.consumers, world.mongod, world.redis, world.broker):
        if process.alive:
            process.signal(SIGCONT)
        else:
            await process.restart(0)


@dataclass(frozen=True, slots=True)
class SingleFault:
    make: MakeFault
    goal_seconds: float | None = None
    """`None`: the server's own start decides."""


LEASE_SECONDS: Final = 2.0
SESSION_SECONDS: Final = 6.0
KILLED: Final = 3.0
ORDERLY: Final = 1.0

FAULTS: Final[dict[str, SingleFault]] = {
    "the watcher is killed, another stands by": SingleFault(kill_watcher, KILLED),
    "the watcher is frozen, another stands by": SingleFault(freeze_watcher, LEASE_SECONDS + 1),
    "the watcher is restarted in order": SingleFault(restart_watcher, ORDERLY),
    "a consumer is killed and started again": SingleFault(kill_consumer, KILLED),
    "a consumer is killed for good": SingleFault(lose_consumer, KILLED),
    "a consumer is frozen": SingleFault(freeze_consumer, SESSION_SECONDS + 1),
    "a consumer is restarted in order": SingleFault(restart_consumer, ORDERLY),
    "a consumer is added": SingleFault(add_consumer, ORDERLY),
    "a consumer is taken away": SingleFault(remove_consumer, ORDERLY),
    "the only broker is killed and started again": SingleFault(restart_broker),
    "Redis is killed and started again, empty": SingleFault(restart_redis),
    "the primary of one member is killed and started again": SingleFault(restart_primary),
}
