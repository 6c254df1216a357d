"""The board's flights, cached as people do it. `PEER_CACHE` says how: `ttl`, by the decorator of cashews, for
`PEER_TTL_SECONDS`; or `aside`, by hand: what is not in Redis is read from MongoDB and put there, unless something is
there by then. Somebody else (who writes, or a sink) corrects it."""

import os
from typing import Any

from cashews import Cache
from fastapi import FastAPI, Response
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from benchmarks.peers.given import REDIS_URL
from neverstale.mongodb.bson_json import encode

SECONDS = 3600
TTL = f"{os.environ.get('PEER_TTL_SECONDS', '10')}s"

app = FastAPI()
redis = Redis.from_url(REDIS_URL)
cache = Cache()
cache.setup(REDIS_URL)
clients: list[AsyncMongoClient[Any]] = []


async def find(key: str) -> bytes | None:
    if not clients:
        clients.append(AsyncMongoClient(os.environ["PEER_MONGODB"], readConcernLevel="majority"))
    found = await clients[0].nyc.flights.find_one({"_id": key})
    return None if found is None else encode(found)


@cache(ttl=TTL, key="ttl:{key}")
async def kept(key: str) -> bytes | None:
    return await find(key)


async def aside(key: str) -> Any:
    body: Any = await redis.get(f"board:{key}")
    if body is None and (body := await find(key)) is not None:
        await redis.set(f"board:{key}", body, ex=SECONDS, nx=True)
    return body


load = kept if os.environ.get("PEER_CACHE") == "ttl" else aside


@app.get("/v1/flights/{key}")
async def flight(key: str) -> Response:
    body = await load(key)
    return Response(status_code=404) if body is None else Response(body, media_type="application/json")
