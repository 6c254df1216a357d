"""Targets: each takes any bytes, and raises only if the code under it breaks its word.

A decoder may refuse bytes with the errors that it names; whatever it takes it must be able to write again.
"""

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from types import SimpleNamespace
from typing import Any, Final, cast

from neverstale.api.derived import cursors
from neverstale.api.derived.cursors import WrongCursor
from neverstale.api.web import typed_values
from neverstale.api.web.demands import plain_of, wish_of
from neverstale.api.web.paths import keys_of, parameters_of, with_plain_names
from neverstale.api.web.preconditions import conditions_of
from neverstale.api.web.problems import Problem
from neverstale.bson import texts
from neverstale.catalog import Resource
from neverstale.errors import DeadLetter
from neverstale.kafka import events
from neverstale.keys import digest, parse, value_of
from neverstale.redis import announcements, audit, entries
from neverstale.redis.announcements import Unreadable
from neverstale.redis.commands import Commands
from neverstale.redis.entries import CorruptEntry, DeclaredOtherwise
from neverstale.redis.watermarks import count_of, watermarks_of
from neverstale.role.damage import Damage
from tests.support.connected import Connected

Target = Callable[[bytes], None]
TARGETS: Final[dict[str, Target]] = {}
KEY: Final = b"ns:things:d:s:a"
DIGEST: Final = digest(KEY)
DAMAGE: Final = Damage()
"""One for all: it complains seldom."""
OWNER: Final = cursors.owner("digest", "group")
THINGS: Final = Resource(name="things", key_type="string")  # type: ignore[call-arg]


def target(name: str) -> Callable[[Target], Target]:
    def register(run: Target) -> Target:
        TARGETS[name] = run
        return run

    return register


@target("events")
def events_of(data: bytes) -> None:
    with suppress(DeadLetter):
        event = events.decode(data)
        assert events.decode(events.encode(event)) == event


@target("record_keys")
def record_keys(data: bytes) -> None:
    with suppress(ValueError):
        value_of(data.decode())


@target("entries")
def entries_of(data: bytes) -> None:
    """The bytes, and the same as an entry of this key."""
    for raw in (data, data[:64] + DIGEST + data[80:]):
        with suppress(CorruptEntry, DeclaredOtherwise):
            entry = entries.decode(raw, DIGEST)
            assert 0 <= entry.version < 1 << 64
            assert entry.body is None or isinstance(entry.body, bytes)


@target("announcements")
def announcements_of(data: bytes) -> None:
    with suppress(Unreadable):
        announced = announcements.decode(data)
        assert all(isinstance(key, str) for key in announced.keys)


@target("marks")
def marks_of(data: bytes) -> None:
    """Watermarks, as a hash in Redis holds them."""
    damage = DAMAGE
    found = watermarks_of(data.split(b"\n"), damage)
    assert all(0 <= mark.version < 1 << 64 for mark in found.values())
    count = count_of(data, damage)
    assert count is None or count > 0


@target("audits")
def audits_of(data: bytes) -> None:
    async def told(*_: Any) -> list[Any]:
        return [data]

    redis = SimpleNamespace(send=told, names=SimpleNamespace(audit=b"a"), damage=DAMAGE)
    record = _run(audit.stored(cast("Commands", redis)))
    for kinds in (record or {"resources": {}})["resources"].values():
        assert all(counts["wrong"] + counts["checked"] is not None for counts in kinds.values())


@target("cursors")
def cursors_of(data: bytes) -> None:
    """As text, and with a right signature over wrong bytes."""
    texts_ = [data.decode("latin-1"), urlsafe_b64encode(data + cursors._signature(data, OWNER)).decode()]
    for text in texts_:
        for width in (1, 2):
            with suppress(WrongCursor):
                cursor = cursors.decode(text, OWNER, width)
                again = cursors.encode(cursor, OWNER)
                assert again is None or cursors.decode(again, OWNER, width).number == cursor.number


@target("typed_values")
def typed_values_of(data: bytes) -> None:
    kind, _, text = data.decode("utf-8", "replace").partition("=")
    for each in (kind,) if kind in typed_values.TYPES else typed_values.TYPES:
        with suppress(typed_values.WrongValue):
            value = typed_values.read(each, text)
            # What was read is spelled so that it is read again, and is the same to us.
            spelled, words = typed_values.spell(value)
            if spelled != typed_values.NULL:
                assert texts.text_of(typed_values.read(spelled, words)) == texts.text_of(value)


@target("demands")
def demands_of(data: bytes) -> None:
    names = (b"cache-control", b"neverstale-min-version", b"accept-encoding", b"if-none-match", b"neverstale-audit")
    for name in names:
        with suppress(Problem):
            wish_of([(name, data)])
        with suppress(Problem):
            plain_of([(name, data)])
    for name in (b"if-match", b"if-none-match", b"if-unmodified-since"):
        with suppress(Problem):
            conditions_of([(name, data)])


@target("paths")
def paths_of(data: bytes) -> None:
    with_plain_names(data.decode("latin-1"))
    with suppress(Problem):
        list(parameters_of(data))
    with suppress(Problem):
        keys_of(data, THINGS)
    for kind in ("string", "int", "objectid", "uuid"):
        with suppress(ValueError):
            parse(data.decode("utf-8", "replace"), kind)


@target("heads")
def heads(data: bytes) -> None:
    """What clients send, whole and in two parts: it is answered, or the connection is closed, and nothing else."""
    half = len(data) // 2
    for parts in ((data,), (data[:half], data[half:])):
        answered = _run(_sent(parts))
        assert answered == b"" or answered.startswith(b"HTTP/1.1 "), answered[:80]


async def _sent(parts: tuple[bytes, ...]) -> bytes:
    connected = Connected(_app)
    try:
        return await connected.exchange(*parts)
    finally:
        connected.protocol.connection_lost(None)
        await connected.run()


async def _app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _run(work: Any) -> Any:
    return _loop().run_until_complete(work)
