"""`neverstale resync`: prove everything that is cached of a collection again, little by little, while it is served.

The watcher walks the collection and publishes a touch for every document, which makes an entry stale that was read
before the walk began (and refreshes it, as `on_change` says). What the walk cannot touch, because the document is
gone or because it is a page, a floor at its end makes stale. So after a resync every entry and page was read at or
after its beginning, and the load of filling them again has come at the rate that was asked for.

The walk lives in its request (`neverstale.mongodb.walks`): this command asks for it and looks on.
"""

import asyncio
import contextlib
import secrets
from dataclasses import dataclass
from typing import Any, Final, Literal

from neverstale.catalog import Catalog
from neverstale.errors import Outage
from neverstale.mongodb.walks import Walk, Walks
from neverstale.ops.repair.applied import are_applied, ends_of_topic
from neverstale.ops.repair.named import resource_named
from neverstale.ops.terminal.interrupts import interrupts
from neverstale.ops.terminal.output import print_json
from neverstale.ops.terminal.progress import Shown
from neverstale.servers import mongo_client
from neverstale.settings import Settings
from neverstale.versions import to_hex
from neverstale.watcher_groups import settings_of

LOOK_SECONDS: Final = 0.25
APPLY_SECONDS: Final = 60.0
"""How long consumers may take for what the walk has published before they are complained of."""

End = Literal["applied", "published", "stopped", "interrupted", "asked", "replaced", "nothing"]
_STATES: Final = {"wanted": "waits for the watcher", "walking": "walks", "walked": "waits for consumers"}


@dataclass(frozen=True, slots=True)
class ResyncWanted:
    resource: str
    rate: float | None = None
    """Documents a second; `None`: as it is, or as fast as it goes."""
    stop: bool = False
    """Stop the one that is under way."""
    wait: bool = True


@dataclass(frozen=True, slots=True)
class Resync:
    """What came of it."""

    resource: str
    end: End
    walk: Walk | None
    joined: bool = False
    """It was under way before."""

    @property
    def ok(self) -> bool:
        return self.end in ("applied", "asked", "stopped", "nothing")


async def resync(settings: Settings, catalog: Catalog, wanted: ResyncWanted, *, quiet: bool = False) -> Resync:
    """Ctrl-C stops the walk; if this process is killed it goes on, and the next call joins it."""
    resource = resource_named(catalog, wanted.resource, settings.catalog)
    settings = settings_of(settings, resource.watcher_group)
    async with mongo_client(settings.mongodb) as client:
        walks = Walks(client, catalog.database, settings.kafka)
        if wanted.stop:
            return await _stop(walks, resource.name, await walks.of("resync", resource.name))
        new = Walk("resync", resource.name, resource.collection, secrets.token_hex(4), rate=wanted.rate)
        joined = not await walks.ask_if_none(new)
        walk = await _joined(walks, new) if joined else new
        if not wanted.wait:
            return Resync(resource.name, "asked", walk, joined)
        with interrupts() as interrupted, Shown(f"resync of {resource.name}", quiet=quiet) as shown:
            end, walk = await _look_on(settings, walks, walk, interrupted, shown)
        return Resync(resource.name, end, walk, joined)


async def _joined(walks: Walks, new: Walk) -> Walk:
    """The walk that is under way, at the rate that is wanted now."""
    walk = await walks.of("resync", new.resource) or new
    return (new.rate is not None and await walks.limit(walk, new.rate)) or walk


async def _stop(walks: Walks, resource: str, walk: Walk | None) -> Resync:
    if walk is None or not walk.is_under_way:
        return Resync(resource, "nothing", walk)
    return Resync(resource, "stopped", await walks.stop(walk) or walk)


async def _look_on(
    settings: Settings, walks: Walks, walk: Walk, interrupted: asyncio.Event, shown: Shown
) -> tuple[End, Walk]:
    while walk.is_under_way:
        shown.show(_STATES[walk.state], walk.passed, walk.about)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(interrupted.wait(), LOOK_SECONDS)
        if interrupted.is_set():
            walk = await walks.stop(walk) or walk
            break
        with contextlib.suppress(Outage):  # The walk may go on; what this command sees of it is all that is delayed.
            found = await walks.of("resync", walk.resource)
            if found is None or found.id != walk.id:
                return "replaced", walk
            walk = found
    if walk.state != "walked":
        return "interrupted", walk
    shown.show(_STATES[walk.state], walk.passed, walk.about)
    applied = await are_applied(settings.kafka, await ends_of_topic(settings.kafka), APPLY_SECONDS)
    return "applied" if applied else "published", walk


def print_resync(done: Resync, *, as_json: bool) -> None:
    """As JSON: `{ok, resource, end, joined, id, passed, about, rate, version}`."""
    if as_json:
        print_json({"ok": done.ok, "resource": done.resource, "end": done.end, **_facts(done)})
        return
    print(f"resync of {done.resource}: {_sentence(done)}")


def _facts(done: Resync) -> dict[str, Any]:
    walk = done.walk
    if walk is None:
        return {}
    version = to_hex(walk.begun) if walk.begun is not None else None
    counts = {"passed": walk.passed, "about": walk.about, "rate": walk.rate}
    return {"joined": done.joined, "id": walk.id, **counts, "version": version}


def _sentence(done: Resync) -> str:
    passed = done.walk.passed if done.walk is not None else 0
    version = to_hex(done.walk.begun) if done.walk is not None and done.walk.begun is not None else ""
    match done.end:
        case "applied":
            return f"done, {passed} documents; every entry and page was read at {version} or later"
        case "published":
            return (
                f"{passed} documents were touched, but the consumers have not applied that within "
                f"{APPLY_SECONDS:.0f} s; they will, see `neverstale status`"
            )
        case "stopped" | "interrupted":
            return f"stopped after {passed} documents; called again it begins again"
        case "replaced":
            return "it was stopped, and another one was asked for"
        case "nothing":
            return "none is under way"
        case "asked":
            return "it was under way already" if done.joined else "asked for; the watcher walks"
