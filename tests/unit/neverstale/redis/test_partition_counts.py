from typing import Any

from neverstale.keys import Names
from neverstale.redis import partition_counts
from neverstale.redis.commands import Commands
from neverstale.role.damage import Damage
from neverstale.versions import to_hex

LATEST = 100


class Held:
    """A hash."""

    def __init__(self, *values: bytes) -> None:
        self.fields = {str(at): value for at, value in enumerate(values)}

    async def exchange(self, commands: Any) -> list[Any]:
        ((name, _, *rest),) = commands
        if name == "HSET":
            self.fields |= {str(at): text.encode() for at, text in zip(rest[::2], rest[1::2], strict=True)}
            return [1]
        return [list(self.fields.values()) if name == "HVALS" else [self.fields.get(str(at)) for at in rest]]

    @property
    def commands(self) -> Commands:
        return Commands(None, Names("ns"), round_trip=self.exchange, damage=Damage(lambda: LATEST))


def told(count: int, version: int) -> bytes:
    return f"{count}:{to_hex(version)}".encode()


async def test_the_newest_mark_is_believed() -> None:
    assert await partition_counts.known(Held(told(4, 9), told(8, 10), told(4, 8)).commands, "default") == 8
    assert await partition_counts.known(Held(told(8, 9), told(4, 10)).commands, "default") == 4
    assert await partition_counts.known(Held().commands, "default") is None


async def test_what_cannot_be_true_is_not_believed() -> None:
    damaged = (b"", b"x", told(8, LATEST + 1), told(10_001, 5), b"0:" + b"0" * 16, told(4, 3))
    assert await partition_counts.known(Held(*damaged).commands, "default") == 4


async def test_what_is_noted_is_found_again_by_partition() -> None:
    held = Held()
    await partition_counts.note(held.commands, "default", {2: (8, 7)})
    assert await partition_counts.told_by(held.commands, "default", [1, 2]) == {2: 8}
    assert await partition_counts.told_by(held.commands, "default", []) == {}
