"""Replies whose shape depends on the version of the Redis protocol that the connection speaks."""

from collections.abc import Mapping, Sequence
from typing import Any


def fields(found: Any) -> Mapping[bytes, bytes]:
    """The fields of a whole hash: they come as a mapping, or one behind the other."""
    return found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))


def scored(found: Sequence[Any]) -> list[tuple[bytes, float]]:
    """The members of a sorted set with their scores: they come in pairs, or one behind the other."""
    in_pairs = bool(found) and isinstance(found[0], (list, tuple))
    pairs = found if in_pairs else zip(found[::2], found[1::2], strict=True)
    return [(member, float(score)) for member, score in pairs]
