"""cashews: `PEER_CASHEWS` says where it keeps results (`redis`, `client-side`, `memory`)."""

import os
from typing import Any

import orjson
from cashews import Cache
from fastapi import FastAPI

from benchmarks.peers.given import BODY, REDIS_URL

cache = Cache()
match os.environ.get("PEER_CASHEWS", "redis"):
    case "memory":
        cache.setup("mem://", size=200_000)
    case "client-side":
        cache.setup(REDIS_URL, client_side=True)
    case _:
        cache.setup(REDIS_URL)

app = FastAPI()


@cache(ttl="1h", key="cashews:{key}")
async def load(key: str) -> Any:
    return orjson.loads(BODY)


@app.get("/v1/items/{key}")
async def item(key: str) -> Any:
    return await load(key=key)
