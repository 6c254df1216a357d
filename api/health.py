"""When the API is ready."""

from typing import Final

from neverstale.role.service import Health

SERVERS: Final = ("mongodb", "redis")


class ReadHealth(Health):
    """Ready while either server answers: MongoDB alone can answer every read, Redis alone what is cached.

    Every part is reported, so that a degraded API is seen although it serves.
    """

    draining = False
    warming = False
    """The cache is being filled, and whoever balances should wait for that."""

    def drain(self) -> None:
        """Not ready any more, whatever answers: the process is about to stop."""
        self.draining = True
        self.wrong("process", "about to stop")

    @property
    def ready(self) -> bool:
        return not (self.draining or self.warming) and any(self.parts.get(name, "") is None for name in SERVERS)


def health() -> ReadHealth:
    return ReadHealth({"mongodb": "not asked yet", "redis": "not asked yet"})
