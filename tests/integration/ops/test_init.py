"""`neverstale init` on a real MongoDB with collections of odd shapes."""

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from bson import Binary, Int64, ObjectId, Regex, encode
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient

from neverstale.catalog import Catalog
from neverstale.errors import Misconfigured
from neverstale.ops.check.mongodb import check_mongodb
from neverstale.ops.init.init import Wishes, init
from neverstale.settings.sources import load

Client = AsyncMongoClient[dict[str, Any]]
SERVED = {
    "words": "string",
    "numbers": "int",
    "longs": "int",
    "ids": "objectid",
    "uuids": "uuid",
    "mostly words": "string",
    "Größe.2": "string",
}
NOT_SERVED = ("decimals", "a-view", "series", "log", "empty")


@pytest.fixture
async def shop(mongo_uri: str, database: str) -> Any:
    """A database of twelve collections, seven of which can be served."""
    async with Client(mongo_uri, uuidRepresentation="standard") as client:
        shop = client[database]
        await shop.words.insert_many(
            [{"_id": f"w{n}", "n": n, "tag": "a", "at": None, "re": Regex("x")} for n in range(30)]
        )
        await shop.words.create_index([("tag", 1), ("n", -1)], unique=True)
        await shop.numbers.insert_many([{"_id": n, "either": n if n % 2 else str(n)} for n in range(9)])
        await shop.longs.insert_many([{"_id": Int64(2**40)}, {"_id": 7}])
        await shop.ids.insert_one({"_id": ObjectId(), "owner": uuid4(), "raw": Binary(b"x")})
        await shop.uuids.insert_one({"_id": UUID(int=7)})
        await shop["mostly words"].insert_many([{"_id": "a"}, {"_id": "b"}, {"_id": {"x": 1}}])
        odd = RawBSONDocument(encode({"_id": "a", "a.b": 1, "$c": 2, "line\nbreak": 3}))
        await shop["Größe.2"].insert_one(odd)
        await shop.decimals.insert_one({"_id": 1.5})
        await shop.command({"create": "a-view", "viewOn": "words", "pipeline": []})
        await shop.command({"create": "series", "timeseries": {"timeField": "at"}})
        await shop.command({"create": "log", "capped": True, "size": 4096})
        await shop.command({"create": "empty"})
        yield shop


async def test_what_it_writes_is_a_catalog_that_fits(
    mongo_uri: str, database: str, shop: Any, tmp_path: Path
) -> None:
    settings, _ = load({}, None, {"mongodb.uri": mongo_uri})
    made = await init(settings.mongodb, Wishes(database=database, folder=tmp_path))
    catalog = Catalog.load(made.catalog)
    assert {one.collection: one.key_type for one in catalog.resources.values()} == SERVED
    text = made.catalog.read_text()
    for name in NOT_SERVED:
        assert f"# {name} is left out: " in text
    assert "# Index: tag, n descending (unique)" in text
    assert '# either = "any" # held int, string' in text
    assert '# owner = "uuid"' in text and '# raw = "binary"' in text and '# re = "any"' in text
    assert "there were 1 object" in text
    found = await check_mongodb(settings.mongodb, catalog)
    assert [each for each in found if each.level == "problem"] == []
    load({}, made.settings)


async def test_it_replaces_nothing_unless_it_is_told_to(
    mongo_uri: str, database: str, shop: Any, tmp_path: Path
) -> None:
    settings, _ = load({}, None, {"mongodb.uri": mongo_uri})
    (tmp_path / "neverstale.toml").write_text("mine")
    with pytest.raises(Misconfigured, match="is there already; use --force"):
        await init(settings.mongodb, Wishes(database=database, folder=tmp_path))
    assert not (tmp_path / "catalog.toml").exists()
    await init(settings.mongodb, Wishes(database=database, folder=tmp_path, collections=("ids",), force=True))
    assert list(Catalog.load(tmp_path / "catalog.toml").resources) == ["ids"]


async def test_what_cannot_be_begun_with_says_what_to_name(
    mongo_uri: str, database: str, shop: Any, tmp_path: Path
) -> None:
    settings, _ = load({}, None, {"mongodb.uri": mongo_uri})
    with pytest.raises(Misconfigured, match=r"name one of: .*words"):
        await init(settings.mongodb, Wishes(database=database, folder=tmp_path, collections=("word",)))
    with pytest.raises(Misconfigured, match=r"nothing of .* can be served: empty is empty"):
        await init(settings.mongodb, Wishes(database=database, folder=tmp_path, collections=("empty",)))
    asked: list[Any] = []

    def ask(found: Any) -> str:
        asked.append(found)
        return "none of them"

    await shop.client[f"{database}-2"].things.insert_one({"_id": 1})
    try:
        with pytest.raises(Misconfigured, match="there is no 'none of them'"):
            await init(settings.mongodb, Wishes(folder=tmp_path), ask)
        assert {database, f"{database}-2"} <= set(asked[0])
    finally:
        await shop.client.drop_database(f"{database}-2")
    assert not (tmp_path / "catalog.toml").exists()
