"""Clients of servers are closed to the end."""

import asyncio

import pytest
from pymongo import AsyncMongoClient

from neverstale.servers import mongo_client
from neverstale.settings import MongoDB


async def test_a_client_of_mongodb_is_closed_although_its_closing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    close, begun, ended = AsyncMongoClient.close, asyncio.Event(), asyncio.Event()

    async def slowly(client: AsyncMongoClient[dict[str, object]]) -> None:
        begun.set()
        await asyncio.sleep(0)
        await close(client)
        ended.set()

    async def use() -> None:
        async with mongo_client(MongoDB()):
            pass

    monkeypatch.setattr(AsyncMongoClient, "close", slowly)
    using = asyncio.create_task(use())
    await begun.wait()
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using
    async with asyncio.timeout(10):
        await ended.wait()
