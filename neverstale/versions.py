"""Versions: MongoDB cluster times as integers and as text.

A version is `seconds << 32 | increment`. On the wire and in Redis it is 16 lower-case hex digits, so that
text order is time order (Lua's numbers are doubles and cannot hold 64 bits).
"""

import re
from typing import Final, TypeAlias

from bson.timestamp import Timestamp

Version: TypeAlias = int
"""A cluster time, 64 bits."""

_HEX: Final = re.compile(rb"[0-9a-f]{16}")

ZERO = "0" * 16
"""No version: older than every real one."""
LATEST: Version = 2**64 - 1
"""No version: later than every real one."""


def from_timestamp(timestamp: Timestamp) -> Version:
    return timestamp.time << 32 | timestamp.inc


def to_timestamp(version: Version) -> Timestamp:
    return Timestamp(version >> 32, version & 0xFFFFFFFF)


def to_hex(version: Version) -> str:
    return f"{version:016x}"


def from_hex(text: str | bytes) -> Version:
    """The version spelled by exactly 16 lower-case hex digits; `ValueError` otherwise."""
    if isinstance(text, bytes):
        text = text.decode("ascii")
    if len(text) != 16 or not set(text) <= set("0123456789abcdef"):
        raise ValueError("a version is 16 lower-case hex digits")
    return int(text, 16)


def is_hex(text: bytes) -> bool:
    """Whether these bytes spell a version."""
    return _HEX.fullmatch(text) is not None


def end_of(seconds: float) -> Version:
    """The last version of the second that this time, in seconds since 1970, lies in."""
    return int(seconds) << 32 | 0xFFFFFFFF


def of_resume_token(data: str) -> Version:
    """The cluster time in a resume token's `_data`: byte 0x82, 4 bytes seconds, 4 bytes increment.

    Source: MongoDB server, `src/mongo/db/pipeline/resume_token.h` (KeyString encoding of a timestamp).
    """
    if data[:2] != "82" or len(data) < 18:
        raise ValueError("not a resume token that starts with a timestamp")
    return int(data[2:18], 16)
