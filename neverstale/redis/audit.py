"""What the auditor tells: one record of its last hour in Redis, and the evidence of what it found wrong.

The record is JSON, `{prefix}:audit`, and is gone an hour after an auditor has last written it:

    {"format": 1, "instance": "host-4711", "at_ms": 1764512345678, "since_ms": 1764508745678,
     "reads_per_second": 198.4, "problems": [],
     "resources": {"flights": {"documents": {"checked": 512345, "wrong": 0, "nines": 5.2, ...}, "pages": {...}}}}

Each piece of evidence is JSON, too: an item of the list `{prefix}:violations`, the last one first.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from neverstale.redis.commands import Commands

FORMAT: Final = 1
KEPT_SECONDS: Final = 3600


async def store(redis: Commands, record: Mapping[str, Any]) -> None:
    """Raises `Outage`."""
    body = orjson.dumps({"format": FORMAT, **record})
    await redis.send(("SET", redis.names.audit, body, "EX", KEPT_SECONDS))


async def stored(redis: Commands) -> dict[str, Any] | None:
    """`None`: no auditor has told anything for an hour, or it was one of another release. Raises `Outage`."""
    (body,) = await redis.send(("GET", redis.names.audit))
    return _read(redis, body) if body is not None else None


async def keep_evidence(redis: Commands, evidence: Mapping[str, Any], most: int) -> None:
    """Raises `Outage`."""
    body = orjson.dumps(evidence)
    await redis.send(("LPUSH", redis.names.violations, body), ("LTRIM", redis.names.violations, 0, most - 1))


async def kept_evidence(redis: Commands, most: int) -> list[dict[str, Any]]:
    """Raises `Outage`."""
    (bodies,) = await redis.send(("LRANGE", redis.names.violations, 0, most - 1))
    return [told for body in bodies if isinstance(told := _json(body), dict)]


def _read(redis: Commands, body: bytes) -> dict[str, Any] | None:
    told = _json(body)
    if isinstance(told, dict) and told.get("format", FORMAT) != FORMAT:
        return None
    try:
        _check(told)
    except (LookupError, TypeError, AttributeError):
        redis.damage.met("audit", body[:80])
        return None
    record: dict[str, Any] = told
    return record


def _check(told: Any) -> None:
    """Raises what its readers would otherwise raise."""
    whole, number = ("checked", "wrong", "permanent", "undecided"), ("nines", "worst_age_seconds")
    _need(type(told["at_ms"]) is int and type(told["since_ms"]) is int)
    for kinds in told["resources"].values():
        for counts in kinds.values():
            _need(all(type(counts[name]) is int for name in whole))
            _need(all(isinstance(counts[name], int | float) for name in number))
            _need(all(type(stale["count"]) is int for stale in counts["stale"].values()))


def _need(is_so: bool) -> None:
    if not is_so:
        raise TypeError


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
