"""Foreign keys: what lies under a key of ours with another type is deleted, and nothing else."""

from collections.abc import Sequence
from typing import Any

from neverstale.keys import Names
from neverstale.redis.foreign_keys import removed
from neverstale.role.damage import Damage


async def test_keys_that_hold_another_type_are_deleted_and_no_others() -> None:
    names = Names("ns")
    types = {names.applied: b"list", names.floor("a"): b"string", b"ns:{t}:0a:c:n": b"set", b"ns:a:d:s:x": b"none"}
    deleted: list[bytes] = []

    async def exchange(commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        for command in commands:
            if command[0] == "DEL":
                deleted.extend(command[1:])
        return [types.get(command[1], b"hash") for command in commands]

    commands = [("EVALSHA", "sha", 3, *list(types)[:3], b"ns:applied"), ("MGET", b"ns:a:d:s:x"), (b"INFO", b"server")]
    assert await removed(commands, names, Damage(), exchange) == 2
    assert deleted == [names.applied, b"ns:{t}:0a:c:n"]
