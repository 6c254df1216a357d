"""The same with a model of the answer."""

from fastapi import FastAPI
from pydantic import BaseModel, Field
from redis.asyncio import Redis

from benchmarks.peers.given import BODY, REDIS_URL


class Item(BaseModel):
    id: str = Field(alias="_id")
    fields: dict[str, str]


app = FastAPI()
redis = Redis.from_url(REDIS_URL)


@app.get("/v1/items/{key}", response_model=Item)
async def item(key: str) -> Item:
    name = f"model:{key}"
    body = await redis.get(name)
    if body is None:
        body = BODY
        await redis.set(name, body, ex=3600)
    return Item.model_validate_json(body)
