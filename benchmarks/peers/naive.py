"""FastAPI and `redis.get`, as in every tutorial."""

from fastapi import FastAPI, Response
from redis.asyncio import Redis

from benchmarks.peers.given import BODY, REDIS_URL

app = FastAPI()
redis = Redis.from_url(REDIS_URL)


@app.get("/v1/items/{key}")
async def item(key: str) -> Response:
    name = f"naive:{key}"
    body = await redis.get(name)
    if body is None:
        body = BODY
        await redis.set(name, body, ex=3600)
    return Response(body, media_type="application/json")
