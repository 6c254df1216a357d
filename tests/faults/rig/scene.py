"""The usual scene: watcher, consumer and API run, every key is cached, writers write, readers read, all is judged."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from neverstale.ops.stack.process import together
from neverstale.ops.stack.role import RunningRole
from tests.faults.rig.experiment import Outcome, Turn
from tests.faults.rig.load import Load, Shape, under_load
from tests.faults.rig.pipeline import Pipeline, pipeline

NO_VARIABLES: Final[Mapping[str, str]] = {}
CONTROL_CONVERGES_SECONDS: Final = 6.0
"""What a control breaks need not be waited for so long."""


@dataclass
class Scene:
    pipe: Pipeline
    load: Load
    watcher: RunningRole
    consumer: RunningRole
    api: RunningRole


@contextlib.asynccontextmanager
async def scene(
    turn: Turn,
    outcome: Outcome,
    shape: Shape | None = None,
    *,
    watcher: Mapping[str, str] = NO_VARIABLES,
    consumer: Mapping[str, str] = NO_VARIABLES,
    api: Mapping[str, str] = NO_VARIABLES,
    inject: Sequence[str] = (),
    apis: int = 1,
    **options: Any,
) -> AsyncIterator[Scene]:
    """Variables of the roles, further rules that are broken in all of them, and options of `pipeline`."""
    shape = shape or Shape()
    if turn.rule:
        shape = replace(shape, converge_seconds=CONTROL_CONVERGES_SECONDS)
    async with pipeline(turn.bench, turn.rule, **options) as pipe:
        roles: dict[str, RunningRole] = {}

        async def start(name: str, variables: Mapping[str, str]) -> None:
            role: Any = name.split("-")[0]
            roles[name] = await pipe.start(role, *inject, **variables)

        names = [f"api-{number}" for number in range(apis)]
        await together(start("watcher", watcher), start("consumer", consumer), *(start(name, api) for name in names))
        urls = [roles[name].url for name in names]
        mongo_uri = options.get("mongo_uri") or pipe.environment["MONGODB__URI"]
        async with under_load(pipe, turn, outcome, mongo_uri, urls, shape) as load:
            yield Scene(pipe, load, roles["watcher"], roles["consumer"], roles["api-0"])
