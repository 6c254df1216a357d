"""The week of flights, loaded into a MongoDB and played without end."""

import asyncio
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from neverstale.catalog import Catalog
from neverstale.errors import Misconfigured
from neverstale.ops.demo.flights.play import Revisions, demo_catalog, loaded
from tests.support.waiting import eventually

Client = AsyncMongoClient[dict[str, Any]]


@pytest.fixture
async def board(mongo_uri: str, database: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The database in which the board is played here."""
    catalog = Catalog.load(demo_catalog()).model_copy(update={"database": database})
    monkeypatch.setattr(Catalog, "load", lambda _: catalog)
    async with Client(mongo_uri) as client:
        yield client[database]


async def test_the_week_is_loaded_and_goes_on_until_it_is_told_to_stop(mongo_uri: str, board: Any) -> None:
    stop = asyncio.Event()
    async with loaded(mongo_uri) as player:
        assert await board.airlines.count_documents({}) == 16
        assert await board.flights.count_documents({"status": "scheduled"}) == 6104
        playing = asyncio.create_task(player.play(stop))

        async def changed() -> bool:
            count: int = await board.flights.count_documents({"rev": {"$gt": 1}})
            return count > 20

        await eventually(changed, "flights change")
        stop.set()
        await asyncio.wait_for(playing, 20)
    async with loaded(mongo_uri):  # once more over what it left
        assert await board.flights.count_documents({"status": "scheduled"}) == 6104


@pytest.mark.parametrize("collection", ["flights", "airlines", "airports"])
async def test_documents_of_somebody_else_are_never_replaced(mongo_uri: str, board: Any, collection: str) -> None:
    await board[collection].insert_one({"_id": "mine"})
    with pytest.raises(Misconfigured, match=rf"{collection} that are not the demo's"):
        async with loaded(mongo_uri):
            raise AssertionError("must not be reached")
    assert await board[collection].count_documents({}) == 1


def test_revisions_of_a_key_count_up() -> None:
    revisions = Revisions()
    assert [revisions.begin(1, 0.0), revisions.begin(2, 0.0), revisions.begin(1, 0.0)] == [1, 1, 2]
