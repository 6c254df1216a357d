"""Dead letters: records that could not be applied, in a topic of their own with their reason and origin.

A dead letter has the key, the value and the headers of the record that it is about, byte for byte, and these headers
of ours (text):

| header                 | meaning                                                                      |
|------------------------|------------------------------------------------------------------------------|
| `neverstale-reason`    | why, one of `neverstale.errors.Unreadable`                                   |
| `neverstale-detail`    | the same for people                                                          |
| `neverstale-topic`, `-partition`, `-offset`, `-timestamp` | where it was; milliseconds since 1970     |
| `neverstale-cut`       | bytes of key and value, if that was more than is kept; such a one cannot be replayed |

All are in partition 0 of their topic, so that an offset names one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from neverstale.settings import Kafka

PARTITION: Final = 0
LARGEST_BYTES: Final = 256 * 1024
"""Of key and value. Far above any record of ours, and below what producers and brokers refuse."""
KEPT_BYTES: Final = 4 * 1024
"""Of the key and of the value of one that is larger."""
PREFIX: Final = "neverstale-"

Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Letter:
    """A record, where it came from, and why it could not be applied."""

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    """The record's own."""
    bytes_cut: int | None = None
    """How large key and value were, if this is only their beginning."""

    @property
    def size(self) -> int:
        return self.bytes_cut or len(self.key or b"") + len(self.value or b"")

    def encode_headers(self) -> list[tuple[str, bytes]]:
        ours = {
            "reason": self.reason,
            "detail": self.detail,
            "topic": self.topic,
            "partition": str(self.partition),
            "offset": str(self.offset),
            "timestamp": str(self.timestamp_ms),
        }
        if self.bytes_cut is not None:
            ours["cut"] = str(self.bytes_cut)
        return [*self.headers, *((PREFIX + name, text.encode()) for name, text in ours.items())]

    @classmethod
    def decode(cls, record: Any) -> Self:
        """The letter in aiokafka's `ConsumerRecord`. `ValueError`: it is no dead letter of ours."""
        ours = {name.removeprefix(PREFIX): text.decode() for name, text in record.headers if name.startswith(PREFIX)}
        try:
            return cls(
                ours["reason"],
                ours["detail"],
                ours["topic"],
                int(ours["partition"]),
                int(ours["offset"]),
                int(ours["timestamp"]),
                record.key,
                record.value,
                tuple((name, text) for name, text in record.headers if not name.startswith(PREFIX)),
                int(ours["cut"]) if "cut" in ours else None,
            )
        except KeyError as error:
            raise ValueError(f"the header {PREFIX}{error.args[0]} is missing") from None

    def fitting(self, largest: int = LARGEST_BYTES) -> Self:
        """The same, or its beginning if it is too large."""
        size = self.size
        if size <= largest and sum(len(name) + len(text) for name, text in self.headers) <= largest:
            return self
        key, value = self.key and self.key[:KEPT_BYTES], self.value and self.value[:KEPT_BYTES]
        return replace(self, key=key, value=value, headers=(), bytes_cut=size)


def topic_of(settings: Kafka) -> Kafka:
    """The settings of the topic of dead letters."""
    declared = {"topic": settings.dead_topic_name, "partitions": 1, "retention_ms": settings.dead_retention_ms}
    return settings.model_copy(update=declared)
