"""The generations of derived data, as this process last saw them (see `neverstale.derived.generations`).

Being wrong about them costs a read of the register, never an answer: whoever reads something of a generation fetches
the register's epoch after it, and asks here whether the generation was still there.
"""

from collections.abc import Callable, Sequence
from typing import Final, NoReturn, get_args

from neverstale.derived.generations import Generation, Generations, Phase, UnknownFormat
from neverstale.derived.redis_names import epoch_command
from neverstale.derived.store import DerivedStore
from neverstale.errors import Outage
from neverstale.role import telemetry
from neverstale.role.retry import forever

PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
Identity = Callable[[], str | None]
LOOK_SECONDS = 0.5
SOON_SECONDS = 0.05


class Known:
    """The generations of one resource.

    `identity`: the Redis that is read; what was built on another one counts for nothing.
    """

    def __init__(self, store: DerivedStore, identity: Identity, resource: str = "") -> None:
        """`resource`: its name in metrics; default: that of its store."""
        self.names = store.names
        self._resource = resource or store.names.resource
        self._store = store
        self._identity = identity
        self._all = Generations()
        self._told: Generations | None = None
        self._epoch = b""
        self._seen: str | None = None
        self._chosen: dict[tuple[str, str | None], Generation | None] = {}
        self.moment = object()
        """Another one whenever something else may be chosen."""

    @property
    def located(self) -> bool:
        """Whether it was looked at on the Redis that is read now."""
        return self._seen is not None and self._seen == self._identity()

    def for_list(self, name: str, digest: str) -> Generation | None:
        """The generation whose tags vouch for a list's pages; `None`: there is none, ask MongoDB."""
        identity = self._identity()
        at = name, identity
        if at not in self._chosen:
            self._chosen[at] = self._all.for_lists(name, digest, identity) if identity is not None else None
        return self._chosen[at]

    def for_counts(self, declaration: str, digest: str) -> Generation | None:
        """The generation that holds a counter or ranking; `None`: there is none, ask MongoDB."""
        identity = self._identity()
        at = declaration, identity
        if at not in self._chosen:
            self._chosen[at] = self._all.for_counts(declaration, digest, identity) if identity is not None else None
        return self._chosen[at]

    def epoch_command(self) -> tuple[bytes | int, ...]:
        """Comes behind whatever is read of a generation, in the same pipeline."""
        return epoch_command(self.names.generations)

    async def kept(self, generation: Generation, epoch: bytes) -> bool:
        """Whether the generation was kept up to date, on the Redis that is read, when the epoch was read.

        A name never comes back, so one that is still there was there all the time.
        """
        if epoch != self._epoch:
            await self.look()
        return self._all.of(generation.id) is not None and generation.identity == self._identity()

    def tell_phase(self) -> None:
        """In the metrics: how far what is derived has come."""
        if self._told is self._all:
            return
        self._told = self._all
        phases = {one.phase for one in self._all.all}
        for phase in PHASES:
            telemetry.GENERATION.labels(self._resource, phase).set(phase in phases)

    async def look(self) -> None:
        """Reads the register."""
        try:
            found = await self._store.generations()
            epoch = found.epoch.encode()
        except UnknownFormat as error:
            # Another release writes what we cannot read: nothing is known.
            self._store.damage.met("derived", f"generations of {self.names.resource}: {error}")
            found, epoch = Generations(), b""
        identity = self._identity()
        if epoch != self._epoch or identity != self._seen:
            self._all, self._epoch, self._seen = found, epoch, identity
            self._chosen = {}
            self.moment = object()


async def keep_known(known: Sequence[Known]) -> NoReturn:
    """Looks for new generations again and again, until cancelled."""

    async def look() -> float:
        for one in known:
            try:
                await one.look()
                one.tell_phase()
            except Outage:
                break  # Nothing derived can be read from Redis meanwhile either.
        return LOOK_SECONDS if all(one.located for one in known) else SOON_SECONDS

    await forever(look)
