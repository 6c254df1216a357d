"""What one unbroken hearing vouches for, by watcher group: a group that stands still lets no other wait."""

from collections.abc import Collection, Hashable

from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.versions import Version


class Vouched:
    """Up to which version all changes of each group were announced, or applied before they were listened for."""

    def __init__(self) -> None:
        self._groups: dict[str, tuple[object, Version]] = {}

    def vouch(self, watermark: Version, group: str = DEFAULT_GROUP) -> bool:
        """Whether this is the first that is heard of a group."""
        token, known = self._groups.get(group, (None, 0))
        self._groups[group] = token or object(), max(known, watermark)
        return token is None

    def of(self, group: str) -> Version:
        """Up to where one of them is vouched for; 0: it is not. It is asked for by every read."""
        held = self._groups.get(group)
        return 0 if held is None else held[1]

    def watermark(self, groups: Collection[str]) -> Version:
        """Up to where all of these are vouched for; 0: one of them is not."""
        return min(map(self.of, groups))

    def hearing(self, groups: Collection[str]) -> Hashable | None:
        """What is heard of these groups now, in one piece; `None`: one of them is not heard."""
        if not all(group in self._groups for group in groups):
            return None
        return tuple(self._groups[group][0] for group in groups)

    def void(self) -> None:
        """Something may not have been heard."""
        self._groups.clear()
