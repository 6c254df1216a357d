"""When the API is ready."""

from typing import Final

from neverstale.service import Health

HEALTH: Final = "neverstale.health"
"""Where the lifespan's state holds the `ReadHealth`."""


class ReadHealth(Health):
    """Ready while either server answers: MongoDB alone can answer every read, Redis alone what is cached.

    Every part is reported, so that a degraded API is seen although it serves.
    """

    draining = False

    def drain(self) -> None:
        """Not ready any more, whatever answers: the process is about to stop."""
        self.draining = True
        self.wrong("process", "about to stop")

    @property
    def ready(self) -> bool:
        return not self.draining and any(wrong is None for wrong in self.parts.values())


def health() -> ReadHealth:
    return ReadHealth({"mongodb": "not asked yet", "redis": "not asked yet"})
