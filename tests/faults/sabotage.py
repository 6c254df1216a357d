"""Negative controls: each takes one rule of ours away. The product itself has no such switches.

    python -m tests.faults.sabotage RULE run ROLE

starts a role in which the rule does not hold; `without(rule)` does the same within this process.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from importlib import import_module
from typing import Any
from unittest.mock import patch

Patches = Iterator[AbstractContextManager[Any]]
Rule = Callable[[], Patches]

RULES: dict[str, Rule] = {}


def rule(name: str) -> Callable[[Rule], Rule]:
    """Register the patches that take a rule away."""

    def register(patches: Rule) -> Rule:
        assert name not in RULES, name
        RULES[name] = patches
        return patches

    return register


@contextlib.contextmanager
def without(name: str | None) -> Iterator[None]:
    """In here the rule does not hold. `None`: all do."""
    with ExitStack() as stack:
        if name is not None:
            for each in RULES[name]():
                stack.enter_context(each)
        yield


def replaced(target: str, new: Any) -> AbstractContextManager[Any]:
    """`module:attribute.attribute` is `new`."""
    module, _, attributes = target.partition(":")
    *path, last = attributes.split(".")
    owner: Any = import_module(module)
    for name in path:
        owner = getattr(owner, name)
    return patch.object(owner, last, new)


def script_changed(name: str, old: str, new: str) -> AbstractContextManager[Any]:
    """The shipped script with one passage replaced; it must still be there to be replaced."""
    from neverstale import scripts

    shipped = scripts.source

    def source(asked: Any) -> str:
        text = shipped(asked)
        if asked != name:
            return text
        assert text.count(old) == 1, f"{name}.lua has changed: {old!r}"
        return text.replace(old, new)

    return replaced("neverstale.scripts:source", source)


# --- filling


def _fills_anyway(*refusals: str) -> AbstractContextManager[Any]:
    """What the script refuses for these reasons is stored all the same."""
    from neverstale.cache import Cache, Fill
    from neverstale.entries import NO_ETAG, etag_of
    from neverstale.keys import digest
    from neverstale.versions import to_hex

    offer = Cache.fill

    def entry(fill: Fill) -> bytes:
        kind = b"D" if fill.body is not None else b"N"
        version, etag = to_hex(fill.version).encode(), etag_of(fill.body) if fill.body is not None else NO_ETAG
        header = (kind, b"0", kind, version, version, b"0" * 16, b"0" * 13, digest(fill.key), etag)
        return b"".join((*header, fill.body or b""))

    async def fill(self: Cache, fills: Sequence[Fill]) -> list[str]:
        results = await offer(self, fills)
        for each, result in zip(fills, results, strict=True):
            if result in refusals:
                await self.send(("SET", each.key, entry(each), "PX", each.ttl_ms))
        return ["filled" if result in refusals else result for result in results]

    return replaced("neverstale.cache:Cache.fill", fill)


@rule("a plain SET fills")
def _plain_set() -> Patches:
    yield _fills_anyway("missing", "token", "version")


@rule("a missing entry counts as fresh")
def _missing_is_fresh() -> Patches:
    yield _fills_anyway("missing")


@rule("no version check")
def _no_version_check() -> Patches:
    yield _fills_anyway("token", "version")


# --- reading MongoDB


@rule("no lower bound")
def _no_lower_bound() -> Patches:
    from neverstale.loader import Loader, Snapshot

    load = Loader.load

    async def unbounded(self: Loader, resource: Any, keys: Any, at_least: int) -> Snapshot:
        return await load(self, resource, keys, 0)

    yield replaced("neverstale.loader:Loader.load", unbounded)


@rule("read concern local")
def _read_concern_local() -> Patches:
    from neverstale.loader import Loader

    command = Loader._command

    async def local(self: Loader, asked: dict[str, Any]) -> dict[str, Any]:
        reply = await command(self, {**asked, "readConcern": {"level": "local"}})
        reply["cursor"].setdefault("atClusterTime", reply["operationTime"])
        return reply

    yield replaced("neverstale.loader:Loader._command", local)


# --- watching


@rule("the token is stored before the acknowledgement")
def _token_before_ack() -> Patches:
    from streams.acks import Acks, Flight

    add = Acks.add

    async def hasty(self: Acks, flight: Flight) -> None:
        self._reached(flight.position)
        await add(self, flight)

    yield replaced("streams.acks:Acks.add", hasty)


# --- consuming


def _kafka_options(**changed: Any) -> AbstractContextManager[Any]:
    from consumers import member

    options = member._options
    return replaced("consumers.member:_options", lambda settings: options(settings) | changed)


@rule("auto-commit")
def _auto_commit() -> Patches:
    yield _kafka_options(enable_auto_commit=True, auto_commit_interval_ms=20)


def main(argv: list[str]) -> None:
    from ops import cli

    names, *command = argv
    with ExitStack() as stack:
        for name in names.split(","):
            stack.enter_context(without(name))
        sys.argv = ["neverstale", *command]
        cli.main()


if __name__ == "__main__":
    main(sys.argv[1:])
