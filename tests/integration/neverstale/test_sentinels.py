"""Redis behind a sentinel: clients go to the master that it names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as Disconnected

from neverstale.errors import Outage
from neverstale.keys import Names
from neverstale.ops.check.redis import check_redis
from neverstale.ops.privileges.redis import SENTINEL
from neverstale.ops.stack.ports import LOOPBACK, free_port
from neverstale.ops.stack.redis import RedisOptions, start_redis
from neverstale.redis.commands import Commands
from neverstale.servers import redis_client
from neverstale.settings import RedisSettings
from tests.support.sentinels import MASTER, start_sentinel

PASSWORD = "of-the-sentinel"


@asynccontextmanager
async def client_of(url: str, **settings: str) -> AsyncIterator[Redis]:
    wanted = RedisSettings.model_validate({"url": url, "connect_timeout_ms": 5000, **settings})
    client = redis_client(wanted, timeout_ms=5000)
    try:
        yield client
    finally:
        await client.aclose()


async def test_a_client_goes_to_the_master_that_the_first_sentinel_to_answer_names(tmp_path: Path) -> None:
    async with (
        await start_redis(RedisOptions(data=tmp_path, name="master")) as master,
        await start_sentinel(tmp_path, "sentinel", master.port, password=PASSWORD) as sentinel,
    ):
        port = sentinel.ports[0]
        nobody = f"{LOOPBACK}:{free_port()}"
        url = f"redis+sentinel://{nobody},{LOOPBACK}:{port}/{MASTER}/3"
        async with client_of(url, sentinel_password=PASSWORD) as client:
            await client.set("here", "3")
        async with Redis(host=LOOPBACK, port=master.port, db=3) as direct:
            assert await direct.get("here") == b"3"
        administrator: Any
        async with Redis(host=LOOPBACK, port=port, password=PASSWORD) as administrator:
            await administrator.execute_command(*SENTINEL.replace(">PASSWORD", ">asking").split())
            await administrator.execute_command("ACL", "SETUSER", "nobody", "on", ">asking")
        async with client_of(url, sentinel_username="neverstale", sentinel_password="asking") as client:
            assert await client.get("here") == b"3"
        async with client_of(url, sentinel_username="nobody", sentinel_password="asking") as client:
            with pytest.raises(Outage, match="a sentinel refuses: NoPermissionError; correct"):
                await Commands(client, Names("ns")).ping()
        [finding, *_] = await check_redis(RedisSettings.model_validate({"url": url, "sentinel_password": PASSWORD}))
        assert finding.level == "ok", finding

        wrong = {
            "no password for the sentinel": (url, {}, "AuthenticationError"),
            "another name": (url.replace(MASTER, "other"), {"sentinel_password": PASSWORD}, "knows no other"),
            "no sentinel at all": (f"redis+sentinel://{nobody}/{MASTER}", {}, "no sentinel names the master"),
        }
        for url, settings, reason in wrong.values():
            async with client_of(url, **settings) as client:
                with pytest.raises(Disconnected, match=reason):
                    await client.get("here")
