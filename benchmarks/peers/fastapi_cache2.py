"""fastapi-cache2 on Redis."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi_cache import FastAPICache
from fastapi_cache.backends.redis import RedisBackend
from fastapi_cache.decorator import cache
from redis.asyncio import Redis

from benchmarks.peers.given import BODY, REDIS_URL


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    FastAPICache.init(RedisBackend(Redis.from_url(REDIS_URL)), prefix="fc2")
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/v1/items/{key}")
@cache(expire=3600)
async def item(key: str) -> Any:
    return orjson.loads(BODY)
