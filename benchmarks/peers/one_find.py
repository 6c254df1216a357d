"""One snapshot read of MongoDB for each request, and nothing in between."""

import os
from typing import Any
from urllib.parse import unquote

import orjson
from pymongo import AsyncMongoClient
from starlette.types import Receive, Scope, Send

from neverstale.mongodb.bson_json import encode

_clients: list[AsyncMongoClient[Any]] = []


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    if not _clients:
        _clients.append(AsyncMongoClient(os.environ["PEER_MONGODB"], maxPoolSize=32))
    key = unquote(scope["path"].rsplit("/", 1)[1])
    reply = await _clients[0]["bench"].command(
        {"find": "items", "filter": {"_id": key}, "limit": 1, "readConcern": {"level": "snapshot"}}
    )
    [*found] = reply["cursor"]["firstBatch"]
    body = encode(found[0]) if found else orjson.dumps(None)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
