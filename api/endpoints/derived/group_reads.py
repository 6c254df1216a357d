"""What can be asked about one group of documents, as whoever asks on his own account spells it: the auditor does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from neverstale.api.derived.figures import FigureSource
from neverstale.api.derived.grouped import GroupedSource


@dataclass(frozen=True, slots=True)
class GroupRead:
    """Of one thing that is declared."""

    source: GroupedSource | FigureSource
    by: Sequence[str]
    """The fields of its groups."""
    key: Callable[[bytes], Any]
    """What a query string asks for; a `Problem` if that makes no sense."""
