"""Processes that make one server together: the members of a replica set, the brokers of a cluster."""

from collections.abc import Sequence
from signal import Signals
from types import TracebackType
from typing import Self

from neverstale.ops.stack.process import STOP_SECONDS, Launch, RunningProcess, together


class ProcessGroup:
    """Starts, stops and hurts its members together; take one of `members` to hurt it alone."""

    def __init__(self, members: Sequence[RunningProcess]) -> None:
        self.members = tuple(members)

    @property
    def alive(self) -> bool:
        """Whether every member runs."""
        return all(member.alive for member in self.members)

    def signal(self, number: Signals) -> None:
        for member in self.members:
            member.signal(number)

    def kill(self) -> None:
        for member in self.members:
            member.kill()

    async def stop(self, grace_seconds: float = STOP_SECONDS) -> None:
        await together(*(member.stop(grace_seconds) for member in self.members))

    async def restart(self, grace_seconds: float = STOP_SECONDS) -> None:
        """Stop and start every member with its data and ports, and wait until the whole serves again."""
        await together(*(member.restart(grace_seconds) for member in self.members))
        await self.until_serving()

    async def until_serving(self) -> None:
        """Return once the members, each ready by itself, serve as one. For a single process: at once."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


async def start_members(launches: Sequence[Launch]) -> list[RunningProcess]:
    """All of them, started at the same time; if one fails, none is left."""
    members: list[RunningProcess] = []
    try:
        members.extend(RunningProcess(launch) for launch in launches)
        await together(*(member.until_ready() for member in members))
    except BaseException:
        for member in members:
            member.kill()
        raise
    return members
