"""How long an entry lives in Redis. Lives free memory; freshness does not depend on them."""

import datetime
from collections.abc import Iterable, Mapping
from random import random
from typing import Any, Final, Protocol

from bson.datetime_ms import DatetimeMS

JITTER: Final = 0.1
"""What was filled together does not expire together: lives are 10 % longer or shorter."""


class Lives(Protocol):
    """What is declared."""

    @property
    def ttl_seconds(self) -> int: ...

    @property
    def absent_ttl_seconds(self) -> int: ...


def ttl_ms(
    lives: Lives, body: bytes | None, expires_ms: int | None, now_ms: float, chance: float | None = None
) -> int:
    """Milliseconds for a document or (`None`) an absence; none if it has expired by now.

    `expires_ms`: when the document itself says that it ends, in ms since 1970; it is never kept longer.
    `chance`: in [0, 1).
    """
    seconds = lives.absent_ttl_seconds if body is None else lives.ttl_seconds
    life = round(seconds * 1000 * (1 + JITTER * (2 * (random() if chance is None else chance) - 1)))
    return life if expires_ms is None else min(life, int(expires_ms - now_ms))


def expiry_of(document: Mapping[str, Any], field: str) -> int | None:
    """When a document says that it ends, in ms since 1970; `None`: it does not say so with a date."""
    value = document.get(field)
    if isinstance(value, datetime.datetime):
        return int(DatetimeMS(value))
    return int(value) if isinstance(value, DatetimeMS) else None


def first_expiry(rows: Iterable[Mapping[str, Any]], field: str | None) -> int | None:
    """When the first of several documents ends."""
    if field is None:
        return None
    return min((expiry for row in rows if (expiry := expiry_of(row, field)) is not None), default=None)
