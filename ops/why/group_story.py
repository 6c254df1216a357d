"""The story of one group of a list, a counter or a ranking, or of one value that is looked up.

Groups are kept by contributions and tags, not by one entry, so what the API answers from its cache is compared with
what it answers from MongoDB. To both it gives their versions: where everything up to MongoDB's version was applied
before the cache was asked, and the cache still gives an older answer, and does so again and again, it is wrong.
"""

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import quote

from neverstale.api.web.problems import Problem
from neverstale.api.web.query import asked
from neverstale.api.web.route_names import route_of
from neverstale.catalog import Catalog, Resource
from neverstale.catalog.declarations import Declaration
from neverstale.derived.generations import Generation, UnknownFormat
from neverstale.derived.reading import page_floor, tag_fields
from neverstale.errors import Misconfigured, Outage
from neverstale.ops.redis.roles import RoleStatus
from neverstale.ops.redis.stores import stores
from neverstale.ops.repair.named import declarations_named, resource_named
from neverstale.ops.status import gather, oldest_ms
from neverstale.ops.terminal.output import console, plain, print_json, table
from neverstale.ops.why.held import Held, addresses_of, ask, held_by_all
from neverstale.ops.why.spoken import spoken
from neverstale.ops.why.verdict import Verdict, nobody_can_tell, watermark_stands
from neverstale.settings import Settings
from neverstale.versions import to_hex

TIMES: Final = 3
APPLIED_SECONDS: Final = 4.0
"""The watcher marks every second."""
POLL_SECONDS: Final = 0.1
SHOWN: Final = 300


@dataclass(frozen=True, slots=True)
class GroupStory:
    resource: str
    declaration: str
    """`counters.by_status`."""
    by: Sequence[str]
    problem: str | None
    """Why Redis cannot be asked."""
    generation: str | None
    phase: str | None
    """`None`: nothing is counted yet, or all is void."""
    floor: str | None
    """Of a list: pages that were read before it are stale; `None`: unknown, or no list."""
    watermark: str | None
    """Of the partition that is furthest behind."""
    age_ms: int | None
    mongodb: Held | None
    """What MongoDB answers through the API; `None`: no process runs that could ask it."""
    value: Any
    """The same, as JSON."""
    held: Sequence[Held]
    stands: bool = False
    """A watermark is older than any takeover lasts."""


async def why_group(
    settings: Settings, catalog: Catalog, name: str, declaration: str, by: Sequence[str]
) -> tuple[GroupStory, Verdict]:
    """`by` are the group's fields as a URL has them: `origin=JFK`, `day:int=3`, `gate:null`."""
    resource = resource_named(catalog, name, settings.catalog)
    named = _declaration(settings, resource, declaration)
    group = _group(resource, named, by)
    for _ in range(TIMES):
        story = await _story(settings, catalog, resource, named, by, group)
        told = verdict(story)
        if told.ok:
            break
    return story, told


def print_why_group(story: GroupStory, told: Verdict, *, as_json: bool) -> None:
    """As JSON: the fields of `GroupStory`, `ok`, and `verdict`, a sentence; `name` is the verdict's."""
    if as_json:
        print_json({"ok": told.ok, "name": told.name, "verdict": told.sentence, **asdict(story)})
        return
    shown = table(plain(f"{story.resource} {story.declaration} {' '.join(story.by)}"), "")
    for about, what in lines_of_group(story, told):
        shown.add_row(about, plain(what))
    console().print(shown, soft_wrap=True)


def verdict(story: GroupStory) -> Verdict:
    mongodb, fresh = story.mongodb, [one for one in story.held if one.answers]
    if story.problem is not None:
        return nobody_can_tell("Redis", story.problem)
    if mongodb is None or mongodb.status is None:
        return Verdict(False, "nobody-served", "no process of the API answers: nobody is served.")
    if mongodb.status not in (200, 404):  # a value that nobody has is an answer, too
        sentence = f"the API does not read MongoDB for it ({mongodb.status}): nothing can be compared."
        return Verdict(True, "not-compared", sentence)
    if story.phase is None:
        sentence = "nothing is counted in Redis yet, or all was lost: answers come from MongoDB."
        return Verdict(True, "nothing-counted", sentence)
    old = [one for one in fresh if one.digest != mongodb.digest and str(one.version) < str(mongodb.version)]
    if old and story.watermark is not None and story.watermark >= str(mongodb.version):
        return Verdict(
            False,
            "broken",
            f"{old[0].url} answers the state of {old[0].version}, although all changes up to {story.watermark} were "
            f"applied: this must not be. Count anew with `neverstale rebuild {story.resource}` and report it.",
        )
    if story.stands:
        return watermark_stands("a partition", story.age_ms, bool(old))
    if not fresh:
        sentence = "the cache does not hold it: the next reader has it read from MongoDB."
        return Verdict(True, "not-cached", sentence)
    if not old:
        return Verdict(True, "cached", "the cache answers what MongoDB answers.")
    age = "an unknown time" if story.age_ms is None else f"{story.age_ms / 1000:.1f} s"
    sentence = f"it has just changed, and that is not applied yet: answers say so by a bound of {age}."
    return Verdict(True, "on-its-way", sentence)


async def _story(
    settings: Settings, catalog: Catalog, resource: Resource, named: str, by: Sequence[str], group: str
) -> GroupStory:
    path = _path(resource.name, named, by)
    status = await gather(settings, catalog)
    mongodb, value = await _from_mongodb(status.roles, path, settings.auditor.own_lines)
    for _ in range(round(APPLIED_SECONDS / POLL_SECONDS)):
        watermark, age_ms = status.behind(resource)
        if mongodb is None or watermark is None or watermark >= str(mongodb.version):
            break
        await asyncio.sleep(POLL_SECONDS)
        status = await gather(settings, catalog)
    held = await held_by_all(status.roles, path, settings.auditor.own_lines)
    problem, generation, floor = await _in_redis(settings, catalog, resource, named, group)
    return GroupStory(
        resource.name,
        named,
        by,
        problem,
        generation.id if generation is not None else None,
        generation.phase if generation is not None else None,
        floor,
        watermark,
        age_ms,
        mongodb,
        value,
        held,
        stands=age_ms is not None and age_ms > oldest_ms(settings),
    )


async def _from_mongodb(roles: Sequence[RoleStatus], path: str, own_lines: Sequence[str]) -> tuple[Held | None, Any]:
    for address in sorted(set(addresses_of(roles))):
        held, body = await ask(address, path, "no-cache", own_lines)
        if held.status is not None:
            return held, json.loads(body) if held.status == 200 else None
    return None, None


async def _in_redis(
    settings: Settings, catalog: Catalog, resource: Resource, named: str, group: str
) -> tuple[str | None, Generation | None, str | None]:
    """Why it does not answer; the generation that answers; the floor of the group's pages."""
    tagged = _declared(resource, named).shows_documents
    try:
        async with stores(settings, catalog) as opened:
            cache, store = opened.of_derived(resource), opened.derived(resource)
            known = (await store.generations()).on(await store.identity())
            generation = known.complete or (known.next if tagged else None)
            kept = generation.shape.by_name.get(named) if generation is not None and tagged else None
            if generation is None or kept is None:
                return None, generation, None
            tags_of = kept.hash(store.names.of(generation.id))
            (tags,) = await cache.send(("HMGET", tags_of, *tag_fields(group)))
            collection_floor, _ = await cache.read(resource.collection, [])
            floor = page_floor(generation, collection_floor, tags, cache.damage)
            return None, generation, None if floor is None else to_hex(floor)
    except Outage as outage:
        return outage.reason, None, None
    except UnknownFormat:
        return "another release has written what is derived", None, None


def _declaration(settings: Settings, resource: Resource, name: str) -> str:
    """`counters.by_status`, which may be called `by_status` where nothing else is."""
    if name in resource.derived.digests():
        return name
    found = declarations_named(resource, name.rpartition(".")[2], settings.catalog)
    if len(found) > 1 or "." in name:
        raise Misconfigured("--of", f"{name} is not declared so", f"name {' or '.join(found)}")
    return found[0]


def _group(resource: Resource, named: str, by: Sequence[str]) -> str:
    """Its name in Redis; `Misconfigured` where `by` does not name all of its fields."""
    fields = _declared(resource, named).by
    try:
        return asked(_query(by).encode(), resource, fields, (), whole=True).group(fields)
    except Problem as problem:
        raise Misconfigured("--by", str(problem), f"name {', '.join(fields) or 'none'}") from None


def _declared(resource: Resource, named: str) -> Declaration:
    one = resource.derived.named(named)
    assert one is not None  # `_declaration` has found it there
    return one.declared


def _path(resource: str, named: str, by: Sequence[str]) -> str:
    route = route_of(f"{resource}.{named}")
    if "{" in route:
        return route.replace("{value}", quote(by[0].partition("=")[2], safe=""))
    query = _query(by)
    return f"{route}{'?' if query else ''}{query}"


def _query(by: Sequence[str]) -> str:
    pairs = (one.partition("=") for one in by)
    return "&".join(f"{quote(name, safe=':.')}{equals}{quote(value, safe='')}" for name, equals, value in pairs)


def lines_of_group(story: GroupStory, told: Verdict) -> Iterable[tuple[str, str]]:
    yield "verdict", told.sentence
    if story.mongodb is not None:
        said = json.dumps(story.value, ensure_ascii=False)
        yield "MongoDB", f"{spoken(story.mongodb)}: {said if len(said) <= SHOWN else said[:SHOWN] + ' …'}"
    if story.problem is None:
        floor = f"; pages read before {story.floor} are stale" if story.floor is not None else ""
        yield "Redis", f"generation {story.generation or 'none'}, {story.phase or 'nothing is counted'}{floor}"
    age = "" if story.age_ms is None else f", {story.age_ms / 1000:.1f} s old"
    yield "applied", f"up to {story.watermark or 'an unknown version'}{age}"
    for one in story.held:
        yield one.url, spoken(one)
