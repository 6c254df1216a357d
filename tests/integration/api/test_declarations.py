"""Two APIs whose catalogs differ share one Redis, as they do while a new catalog is rolled out."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from neverstale.catalog import Catalog, Resource
from tests.worlds.api import World, settings_of

Two = tuple[World, World]
ALL = {"_id": "a", "name": "n", "size": 1, "secret": "s"}
DECLARED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a field is taken out": ({"fields": {"name": "string", "secret": "string"}}, {"fields": {"name": "string"}}),
    "a field is added": ({"fields": {"name": "string"}}, {"fields": {"name": "string", "size": "int"}}),
    "all fields become some": ({}, {"fields": {"name": "string"}}),
    "another collection": ({"collection": "things"}, {"collection": "others"}),
    "it ends otherwise": ({}, {"expires_field": "ends"}),
}


def shown(document: dict[str, Any], declared: dict[str, Any]) -> dict[str, Any]:
    fields = declared.get("fields")
    return {name: value for name, value in document.items() if fields is None or name in fields or name == "_id"}


@pytest.fixture(params=DECLARED)
async def two(
    mongo_uri: str, redis_url: str, database: str, redis_prefix: str, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[Two, list[dict[str, Any]]]]:
    """Both, and what each has to answer for the key a."""
    settings, answers = settings_of(mongo_uri, redis_url, redis_prefix, l1_bytes=0), []
    async with AsyncExitStack() as stack:
        worlds = []
        for declared in DECLARED[request.param]:
            catalog = Catalog.model_validate(
                {"database": database, "resources": {"things": {"key_type": "string", **declared}}}
            )
            world = await stack.enter_async_context(World.of(settings, catalog))
            document = ALL | {"name": catalog.resources["things"].collection}
            await world.write("things", document)
            answers.append(shown(document, declared))
            worlds.append(world)
        for world in worlds:
            await world.mark()
        yield (worlds[0], worlds[1]), answers


async def answered(world: World) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((await world.http.get("/v1/things/a")).content)
    return found


async def in_turns(two: Two) -> list[list[dict[str, Any]]]:
    """What each answers, filling and reading in turns: the entry has been filled by the other one, by itself, is
    leased over the other's body, and stale."""
    answers: list[list[dict[str, Any]]] = [[], []]
    for turn in (0, 1, 1, 0, 0, 1):
        answers[turn].append(await answered(two[turn]))
        await two[turn].until_filled("things", "a")
        answers[turn].append(await answered(two[turn]))
        answers[1 - turn].append(await answered(two[1 - turn]))
    await two[0].until_filled("things", "a")
    await two[0].apply("things", ["a"], await two[0].loader.now())
    answers[1].append(await answered(two[1]))
    answers[0].append(await answered(two[0]))
    return answers


async def test_each_api_answers_as_it_declares_and_misses_what_the_other_one_filled(
    two: tuple[Two, list[dict[str, Any]]],
) -> None:
    apis, expected = two
    for answers, own in zip(await in_turns(apis), expected, strict=True):
        assert answers == [own] * len(answers)
    for api, other in (apis, apis[::-1]):
        await api.until_filled("things", "a")
        assert (await api.http.get("/v1/things/a")).headers["cache-status"] == "neverstale; hit; detail=l2"
        assert await other.entry("things", "a") is None
        assert await api.entry("things", "a") is not None, "which is no damage: nobody deletes it"


@pytest.mark.parametrize("two", ["a field is taken out"], indirect=True)
async def test_without_the_digest_one_api_answers_with_the_field_that_another_one_hides(
    two: tuple[Two, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    apis, expected = two
    for api in apis:
        monkeypatch.setattr(api.things, "shows", "000000")
        monkeypatch.setitem(api.catalog.resources["things"].__dict__, "shows", "000000")
    answers = await in_turns(apis)
    assert expected[0] in answers[1], "the negative control"


def test_what_only_says_how_long_an_entry_lives_makes_nothing_cold() -> None:
    def shows(**declared: Any) -> str:
        table = {"key_type": "string", "fields": {"a": "int", "b": "int"}, **declared}
        return Catalog.model_validate({"database": "d", "resources": {"r": table}}).resources["r"].shows

    assert shows() == shows(ttl_seconds=1, absent_ttl_seconds=1, on_change="refresh", max_groups=3, export=False)
    assert shows() == shows(fields={"b": "long", "a": "int"})
    assert len({shows(), shows(fields={"a": "int"}), shows(collection="c"), shows(key_type="int")}) == 4


def test_another_database_shows_something_else() -> None:
    def of(database: str) -> Resource:
        return Catalog.model_validate({"database": database, "resources": {"r": {"key_type": "int"}}}).resources["r"]

    assert of("one").shows != of("two").shows
