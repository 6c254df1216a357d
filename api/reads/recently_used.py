"""What was used recently, bounded by bytes: two generations instead of a list of uses.

What is put goes to the young generation, and so does what is found in the old one. When the young generation has half
of the bytes it becomes the old one, and what was old is dropped: not used for as long. A hit among the young costs
one look into a dictionary, and nothing is kept beside the entries themselves.
"""

from typing import Final

OVERHEAD: Final = 160
"""Bytes of an entry besides its key and value: two objects' headers and its share of the dictionaries."""


class Recent:
    """`limit` counts keys, values and overhead."""

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._bytes = self._old_bytes = 0
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._young | self._old)

    def __bool__(self) -> bool:
        return bool(self._young or self._old)

    @property
    def size(self) -> int:
        """In bytes, of all that is kept."""
        return self._bytes + self._old_bytes

    def get(self, key: bytes) -> bytes | None:
        return self._young.get(key) or self._again(key)

    def put(self, key: bytes, value: bytes) -> None:
        """What alone has more than half of the bytes is not kept."""
        self.drop(key)
        size = len(key) + len(value) + OVERHEAD
        if size > self._half:
            return
        if self._bytes + size > self._half:
            self.turn()
        self._bytes += size
        self._young[key] = value

    def drop(self, key: bytes) -> None:
        value = self._young.pop(key, None)
        if value is not None:
            self._bytes -= len(key) + len(value) + OVERHEAD
        self._take_old(key)

    def turn(self) -> None:
        """Lets what is young be old, and drops what was old."""
        self._old, self._young = self._young, {}
        self._old_bytes, self._bytes = self._bytes, 0

    def clear(self) -> None:
        self._old, self._young = {}, {}
        self._old_bytes = self._bytes = 0

    def _again(self, key: bytes) -> bytes | None:
        value = self._take_old(key)
        if value is not None:
            self.put(key, value)
        return value

    def _take_old(self, key: bytes) -> bytes | None:
        value = self._old.pop(key, None)
        if value is not None:
            self._old_bytes -= len(key) + len(value) + OVERHEAD
        return value
