"""Any sequence of steps: the in-memory Redis and a real one give the same answers and hold the same bytes."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neverstale.redis.scripts import Name
from tests.contract.subjects import InMemory, RealRedis, Subject

LEASE_MS = 600_000
ENTRIES, REGISTERS, MARKS = (b"e1", b"e2"), (b"r1", b"r2"), b"marks"
NO_TIME = b"0" * 13


def v(number: int) -> bytes:
    return b"%016x" % number


@dataclass(frozen=True)
class Script:
    """A script on some of the keys."""

    name: Name
    keys: tuple[bytes, ...]
    args: tuple[Any, ...]

    def on(self, subject: Subject, prefix: bytes) -> Any:
        return subject.run(self.name, [prefix + key for key in self.keys], *self.args)


@dataclass(frozen=True)
class Command:
    """What befalls a key from outside."""

    name: str
    key: bytes
    args: tuple[Any, ...] = ()

    def on(self, subject: Subject, prefix: bytes) -> Any:
        if self.name == "SETRANGE" and not subject.command("EXISTS", prefix + self.key):
            return None
        return subject.command(self.name, prefix + self.key, *self.args)


TOKENS = st.sampled_from([b"a" * 16, b"b" * 16, b"c" * 16])
VERSIONS = st.integers(1, 5).map(v)
BODIES = st.sampled_from([b"", b"{}", b'{"_id":1,"n":"\xc3\xa9"}', b"\0\xff" * 50])
SOME_ENTRIES = st.lists(st.sampled_from(ENTRIES), min_size=1, max_size=2, unique=True).map(tuple)
SOME_REGISTERS = st.lists(st.sampled_from(REGISTERS), min_size=1, max_size=2, unique=True).map(tuple)


@st.composite
def scripts_on_entries(draw: st.DrawFn) -> Script:
    keys = draw(SOME_ENTRIES)
    on_entries: tuple[Name, ...] = ("lease", "fill", "invalidate", "touch")
    name = draw(st.sampled_from(on_entries))
    args: list[Any] = []
    if name == "lease":
        args = [draw(TOKENS), LEASE_MS, draw(VERSIONS), *(key * 8 for key in keys)]
    elif name == "invalidate":
        args = [draw(TOKENS), LEASE_MS]
        for _ in keys:
            args += [draw(VERSIONS), draw(st.sampled_from("nrt"))]
    elif name == "fill":
        for _ in keys:
            args += [draw(TOKENS), draw(VERSIONS), draw(st.sampled_from("DN")), 900_000]
            args += [draw(st.sampled_from(("a", "b"))) * 16, b"e" * 16, draw(BODIES)]
    return Script(name, keys, tuple(args))


@st.composite
def scripts_on_registers(draw: st.DrawFn) -> Script:
    on_registers: tuple[Name, ...] = ("raise", "claim", "establish", "watermark")
    name = draw(st.sampled_from(on_registers))
    if name == "watermark":
        identity, partition = draw(st.sampled_from(("here", "there"))), draw(st.integers(0, 1))
        count = draw(st.integers(1, 3))
        coverage = draw(st.sampled_from(("", "a" * 16, "b" * 16)))
        made_up = draw(st.sampled_from(("", " 0=" + "a" * 16 + ";", " 1=" + "b" * 16 + "; 0=" + "b" * 16 + ";")))
        mark = (partition, draw(VERSIONS), draw(st.integers(0, 10**13 - 1)))
        return Script(name, (MARKS,), (identity, count, draw(VERSIONS), coverage, "{}", made_up, *mark))
    keys = draw(SOME_REGISTERS)
    if name == "raise":
        return Script(name, keys, tuple(draw(VERSIONS) for _ in keys))
    if name == "claim":
        return Script(name, keys, (draw(TOKENS), LEASE_MS))
    version = draw(VERSIONS)
    return Script(name, keys, (draw(TOKENS), *[version] * len(keys)))


EVENTS = st.one_of(
    st.sampled_from((*ENTRIES, *REGISTERS, MARKS)).map(lambda key: Command("DEL", key)),
    st.sampled_from(ENTRIES).map(lambda key: Command("SETRANGE", key, (51, b"%013d" % 1))),
    st.sampled_from(ENTRIES).map(lambda key: Command("PEXPIRE", key, (LEASE_MS // 2,))),
)
STEPS = st.lists(st.one_of(scripts_on_entries(), scripts_on_entries(), scripts_on_registers(), EVENTS), max_size=30)


def without_times(answer: Any) -> Any:
    """Two clocks never agree to the millisecond: keep whether there is a time, not which."""
    if isinstance(answer, list):
        if answer[:1] == [b"wait"]:
            assert 0 < answer[1] <= LEASE_MS
            return [b"wait"]
        return [without_times(item) for item in answer]
    if isinstance(answer, bytes) and answer[:1] in (b"L", b"D", b"N", b"S") and len(answer) >= 96:
        end = answer[51:64]
        return answer[:51] + (end if int(end) <= 1 else b"x" * 13) + answer[64:]
    return answer


def held(subject: Subject, prefix: bytes) -> list[Any]:
    strings = [subject.command("GET", prefix + key) for key in (*ENTRIES, *REGISTERS)]
    lives = [subject.command("PTTL", prefix + key) for key in (*ENTRIES, *REGISTERS, MARKS)]
    # To the half minute: the sequence of a test takes far less.
    rounded = [life if life < 0 else round(life / 30_000) for life in lives]
    return [without_times(strings), rounded, subject.hash(prefix + MARKS)]


@given(steps=STEPS)
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # every example deletes what it made
)
def test_any_sequence_of_steps_has_the_same_answers_and_bytes(
    real_redis: RealRedis, prefix: bytes, steps: list[Script | Command]
) -> None:
    memory = InMemory()
    for key in (*ENTRIES, *REGISTERS, MARKS):
        real_redis.command("DEL", prefix + key)
    for step in steps:
        assert without_times(step.on(real_redis, prefix)) == without_times(step.on(memory, prefix)), step
        assert held(real_redis, prefix) == held(memory, prefix), step


@given(step=scripts_on_entries(), version=VERSIONS, body_version=VERSIONS, body=BODIES, etag=TOKENS)
def test_what_lies_under_a_stale_entry_decides_nothing(
    step: Script, version: bytes, body_version: bytes, body: bytes, etag: bytes
) -> None:
    def after(under: bytes, read_at: bytes, tag: bytes, kind: bytes) -> tuple[Any, list[Any]]:
        subject = InMemory()
        for key in ENTRIES:
            entry = b"S0" + kind + version + read_at + b"a" * 16 + NO_TIME + b"d" * 16 + tag + under
            subject.command("SET", key, entry)
        answer = step.on(subject, b"")
        # A lease answers its word and what lies there.
        decided = [item[0] for item in answer] if step.name == "lease" else answer
        entries = [subject.command("GET", key) for key in ENTRIES]
        # Everything but what lies there: kind and version of the body, ETag, body.
        return decided, [entry[:2] + entry[3:19] + entry[35:80] for entry in entries]

    assert after(body, body_version, etag, b"D") == after(b"", v(0), b"0" * 16, b"-")


@pytest.mark.parametrize("name", ["lease", "fill", "invalidate", "touch", "raise", "claim", "establish", "watermark"])
def test_no_script_leaves_a_global_variable_behind(name: Name) -> None:
    """The in-memory Redis refuses them, as Redis does; here they are all run at least once."""
    args: dict[str, tuple[Any, ...]] = {
        "lease": (b"a" * 16, LEASE_MS, v(0), b"d" * 16),
        "fill": (b"a" * 16, v(1), "D", 1000, b"d" * 16, b"e" * 16, b"{}"),
        "invalidate": (b"a" * 16, LEASE_MS, v(1), "n"),
        "raise": (v(1),),
        "claim": (b"a" * 16, 1000),
        "establish": (b"a" * 16, v(1)),
        "watermark": ("here", 1, v(9), "c" * 16, "{}", "", 0, v(1), 1),
    }
    InMemory().run(name, [b"key"], *args.get(name, ()))
