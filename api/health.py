"""When the API is ready."""

from neverstale.service import Health


class ReadHealth(Health):
    """Ready while either server answers: MongoDB alone can answer every read, Redis alone what is cached.

    Every part is reported, so that a degraded API is seen although it serves.
    """

    @property
    def ready(self) -> bool:
        return any(wrong is None for wrong in self.parts.values())


def health() -> ReadHealth:
    return ReadHealth({"mongodb": "not asked yet", "redis": "not asked yet"})
