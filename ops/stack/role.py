"""A role of ours (watcher, consumer, api, console) as a real process: the same command that operators run."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from signal import Signals
from typing import Final, Literal

from neverstale.ops.stack.ports import answers_http
from neverstale.ops.stack.process import Launch, RunningProcess, python

PAGES = "NEVERSTALE_API__PUBLIC_PAGES"
Role = Literal["watcher", "consumer", "api", "console"]
_PORT_OF: Final[Mapping[Role, str]] = {"api": "NEVERSTALE_API__PORT", "console": "NEVERSTALE_CONSOLE__PORT"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleOptions:
    role: Role
    name: str
    data: Path
    port: int  # where it serves /livez, /readyz and /metrics
    environment: Mapping[str, str]  # NEVERSTALE_ variables


class RunningRole(RunningProcess):
    @property
    def url(self) -> str:
        """Where it serves /livez, /readyz and /metrics."""
        return f"http://127.0.0.1:{self.ports[0]}"


async def start_role(options: RoleOptions) -> RunningRole:
    """A role that says of itself that it is ready.

    Raises:
        StackError: it exited or did not become ready in time.
    """
    own = {_PORT_OF.get(options.role, "NEVERSTALE_SERVICE__PORT"): str(options.port)}
    if options.role == "consumer":
        own["NEVERSTALE_KAFKA__GROUP_INSTANCE_ID"] = options.name  # one that is killed and back takes its place
    if options.role == "api" and not options.environment.get(PAGES):
        own[PAGES] = "all"  # it is on loopback, and whoever started it wants to look around
    return await RunningRole.start(
        Launch(
            name=options.name,
            argv=python("neverstale.ops.cli", "run", options.role),
            log=options.data / "logs" / f"{options.name}.log",
            ready=partial(answers_http, options.port, "/readyz"),
            ports=(options.port,),
            env={**options.environment, **own},
            death_signal=Signals.SIGTERM,  # it may have workers of its own to stop
        )
    )
