"""Which partition a record key belongs to: the murmur2 of Kafka's default partitioner.

Equal to `aiokafka.partitioner.DefaultPartitioner`, hence to the Java client's, so that any producer that sends
by key agrees with us; a test compares them. It reads four bytes at a time, which makes it twice as fast.
"""

from struct import Struct
from typing import Final

_M: Final = 0x5BD1E995
_SEED: Final = 0x9747B28C
_WORDS: Final = tuple(Struct(f"<{count}I") for count in range(64))


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a record with this key in a topic with so many partitions."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit MurmurHash2; see `org.apache.kafka.common.utils.Utils.murmur2`."""
    length = len(data)
    whole, rest = divmod(length, 4)
    words = _WORDS[whole] if whole < 64 else Struct(f"<{whole}I")
    value = _SEED ^ length
    for word in words.unpack_from(data):
        word = word * _M & 0xFFFFFFFF
        value = (value * _M & 0xFFFFFFFF) ^ ((word ^ word >> 24) * _M & 0xFFFFFFFF)
    if rest:
        value = (value ^ int.from_bytes(data[-rest:], "little")) * _M & 0xFFFFFFFF
    value = (value ^ value >> 13) * _M & 0xFFFFFFFF
    return value ^ value >> 15
