"""What a generation keeps in Redis of one list, counter or ranking besides the contributions: a hash, for some also
sorted sets. It is kept up to date in one of two ways: `neverstale.derived.tagged`, `neverstale.derived.figures`."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Final, TypeAlias

from neverstale.derived.redis_names import GenerationNames

IsOurs: TypeAlias = Callable[[bytes, bytes], bool]
"""Whether a field of a hash may hold this value."""


LONGEST_COUNT: Final = 20
"""Digits and sign of what Redis counts in 64 bits."""


def is_natural(_: bytes, value: bytes) -> bool:
    """An `IsOurs` of plain counts."""
    return value.isdigit() and len(value) <= LONGEST_COUNT


class Kept(ABC):
    """One thing that is declared, as a generation keeps it."""

    __slots__ = ()

    has_sets: ClassVar[bool] = False
    """Whether its hash counts the members of sorted sets, one for each group."""

    name: str

    @abstractmethod
    def hash(self, names: GenerationNames) -> bytes:
        """Its hash. It is there from the claim of the generation on; missing, it was lost."""

    @property
    def is_ours(self) -> IsOurs | None:
        """What its hash may hold; `None`: versions."""
        return None

    def set_of(self, names: GenerationNames, group: str) -> bytes:
        """The sorted set of a group."""
        raise NotImplementedError
