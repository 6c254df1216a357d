"""A rolling upgrade: what the version before has written is read, and what is written now that version can read.

`formats_0.1.0.json` was written by that version and is never changed. A test that fails here tells of a format that
changed: readers of the old one must stay until the version after.
"""

import json
from base64 import b64decode
from typing import Any

import pytest

from neverstale.derived import generations
from neverstale.derived.contributions import Contribution
from neverstale.kafka import events
from neverstale.keys import digest
from neverstale.redis import announcements, entries, watermarks
from neverstale.redis.scripts import Name
from neverstale.role.damage import Damage
from neverstale.versions import to_hex
from tests.contract.subjects import Subject, header
from tests.support.lua_redis import LuaRedis
from tests.support.project import ROOT

BEFORE: dict[str, Any] = json.loads((ROOT / "tests/contract/formats_0.1.0.json").read_text(encoding="utf-8"))
KEY = BEFORE["key"].encode()
OURS = digest(KEY, "abcdef")
TOKEN = b"c" * 16
LEASE_MS = 60_000
VERSION = 0x6B03E1B400000005


@pytest.mark.parametrize("record", [value for value, _ in BEFORE["records"]])
def test_every_record_is_read_and_spelled_as_before(record: str) -> None:
    event = events.decode(record.encode())
    assert json.loads(events.encode(event)) == json.loads(record)


@pytest.mark.parametrize("message", BEFORE["announcements"])
def test_every_announcement_is_read(message: str) -> None:
    said, raw = announcements.decode(message.encode()), json.loads(message)
    assert (said.publisher, said.number) == (raw["by"], raw["n"])
    assert [list(said.keys), list(said.floors), list(said.groups)] == [
        raw.get(name, []) for name in ("keys", "floors", "groups")
    ]
    told = [] if said.marks is None else [[p, to_hex(v), wall] for p, (v, wall) in said.marks.by_partition.items()]
    assert told == raw.get("marks", [])


def test_watermarks_are_read() -> None:
    damage = Damage(lambda: VERSION)
    held = BEFORE["watermarks"]
    assert watermarks.count_of(held["partitions"].encode(), damage) == 4
    found = watermarks.watermarks_of([held[str(p)].encode() if str(p) in held else None for p in range(4)], damage)
    assert {partition: (one.version, one.identity) for partition, one in found.items()} == {
        0: (VERSION, "run:repl"),
        3: (VERSION, "run:repl"),
    }


def test_what_was_derived_is_kept_over_the_upgrade() -> None:
    known = generations.decode(BEFORE["generations"].encode())
    assert [one.phase for one in known.all] == ["complete", "building"]
    assert known.readable() == known
    for declaration, declared in BEFORE["digests"].items():
        found = known.for_counts if not declaration.startswith("lists.") else None
        kept = found(declaration, declared) if found else known.for_lists(declaration.partition(".")[2], declared)
        assert kept is known.complete, f"{declaration} would be built again"
    packed = b64decode(BEFORE["contribution"])
    assert Contribution.unpack(packed) == Contribution(VERSION, ("sJFK", "1", "250"))


@pytest.mark.parametrize("raw", BEFORE["entries"].values(), ids=BEFORE["entries"])
def test_an_entry_is_missing_and_no_damage(raw: str) -> None:
    """It does not say what it shows, so nobody can tell whether it still may be shown."""
    with pytest.raises(entries.DeclaredOtherwise):
        entries.decode(raw.encode(), OURS)
    assert not entries.is_current(raw.encode(), OURS, b"0" * 16, b"f" * 16)


@pytest.mark.parametrize("name", BEFORE["entries"])
def test_an_entry_is_invalidated_and_filled_like_our_own(subject: Subject, prefix: bytes, name: str) -> None:
    key = prefix + b"k"
    raw = BEFORE["entries"][name].encode()
    subject.command("SET", key, raw)
    assert subject.run("invalidate", [key], TOKEN, LEASE_MS, to_hex(8), "n") in (b"d", b"w", b"s")
    assert header(subject.command("GET", key)).version == to_hex(8).encode()
    (answer,) = subject.run("lease", [key], TOKEN, LEASE_MS, to_hex(0), OURS)
    assert answer[0] in (b"granted", b"wait")
    if answer[0] == b"wait":
        return
    older, newer = (("fill", [key], TOKEN, to_hex(at), "D", 1000, OURS, b"e" * 16, b"{}") for at in (7, 8))
    assert subject.run(*older) == [b"version"]  # type: ignore[arg-type]
    assert subject.run(*newer) == [b"filled"]  # type: ignore[arg-type]
    assert header(subject.command("GET", key)).digest == OURS


def test_processes_of_both_versions_share_an_entry() -> None:
    """Each misses what the other one has filled, and fills it over: by its own scripts, which the other one's answers
    do not disturb. An invalidation of either meets both."""
    now, before = LuaRedis(), LuaRedis(BEFORE["scripts"])
    raw: bytes | None = None
    theirs = BEFORE["digest"].encode()

    def run(redis: LuaRedis, script: Name, *arguments: bytes | str | int) -> Any:
        nonlocal raw
        redis.restore(((KEY, (raw, None)),) if raw is not None else ())
        answer = redis.run(script, [KEY], arguments)
        raw = redis.command("GET", KEY)
        return answer

    for turn in range(4):
        at = to_hex(2 * turn + 1)
        assert run(now, "lease", TOKEN, LEASE_MS, to_hex(0), OURS)[0][0] == b"granted"
        assert run(now, "fill", TOKEN, at, "D", 1000, OURS, b"e" * 16, b"{}") == [b"filled"]
        assert entries.decode(raw or b"", OURS).fresh
        assert run(before, "lease", TOKEN, LEASE_MS, to_hex(0), theirs)[0] == [b"granted", b""]
        assert run(before, "fill", TOKEN, at, "D", 1000, b"e" * 16, b"{}") == [b"filled"]
        with pytest.raises(entries.DeclaredOtherwise):
            entries.decode(raw or b"", OURS)
        assert run((now, before)[turn % 2], "invalidate", TOKEN, LEASE_MS, to_hex(2 * turn + 2), "n") == b"d"
